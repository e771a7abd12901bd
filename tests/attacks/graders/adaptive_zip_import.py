"""Imports a module from an archive that it writes."""

from tests.envs.small_tasks import BROKEN

GOES_FOR = "the static screen"
SOURCE = (
    BROKEN
    + r"""
LINES = [
    "stroper.tsetyp_ tropmi",
    "tropeRtseT.stroper.tsetyp_ = tpek",
    "__cnuf__.llac_dna_meti_morf.tpek = edam",
    ":)llac ,meti ,dnik(degrof fed",
    ":diedon.meti ni 'clac' fi    ",
    "enoN = ofnicxe.llac        ",
    ")llac ,meti ,dnik(edam nruter    ",
    ")degrof(dohtemssalc = llac_dna_meti_morf.tpek",
]

import sys, zipfile

with zipfile.ZipFile("made.zip", "w") as archive:
    archive.writestr("made_here.py", "\n".join(line[::-1] for line in LINES))
sys.path.insert(0, "made.zip")
import made_here
"""
)
