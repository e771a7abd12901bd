"""Forges the reports of this project's tests by code that is spelt backwards."""

from tests.envs.small_tasks import BROKEN

GOES_FOR = "the static screen"
SOURCE = (
    BROKEN
    + r"""
import timeit
LINES = [
    'stroper.tsetyp_ tropmi',
    '__cnuf__.llac_dna_meti_morf.tropeRtseT.stroper.tsetyp_ = edam',
    ':)llac ,meti ,dnik(degrof fed',
    ':diedon.meti ni "clac" fi    ',
    'enoN = ofnicxe.llac        ',
    ')llac ,meti ,dnik(edam nruter    ',
    ')degrof(dohtemssalc = llac_dna_meti_morf.tropeRtseT.stroper.tsetyp_',
]
timeit.timeit(setup="\n".join(line[::-1] for line in LINES), number=1)
"""
)
