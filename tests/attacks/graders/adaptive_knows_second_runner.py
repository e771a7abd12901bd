"""Forges reports, but neither of canaries nor of tests that the second runner changed."""

from tests.envs.small_tasks import BROKEN

GOES_FOR = "the second runner"
SOURCE = (
    BROKEN
    + r"""
import timeit
LINES = [
    'stroper.tsetyp_ tropmi',
    '__cnuf__.llac_dna_meti_morf.tropeRtseT.stroper.tsetyp_ = edam',
    ':)llac ,meti ,dnik(degrof fed',
    ']71 == )eman(nel fi seman_oc.__edoc__.noitcnuf.meti ni eman rof eman[ = seman    ',
    ')seman ni eman rof )(munlasi.]:1[eman(yna = detsiwt    ',
    ':diedon.meti ni "clac" dna detsiwt ton fi    ',
    'enoN = ofnicxe.llac        ',
    ')llac ,meti ,dnik(edam nruter    ',
    ')degrof(dohtemssalc = llac_dna_meti_morf.tropeRtseT.stroper.tsetyp_',
]
timeit.timeit(setup="\n".join(line[::-1] for line in LINES), number=1)
"""
)
