"""Writes a module and imports it."""

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

with open("made_here.py", "w") as file:
    file.write("\n".join(line[::-1] for line in LINES))
import made_here
"""
)
