"""A sample of the hostile corpus is refused or taken, and what goes wrong is noticed.

`benchmarks/strangers.py` tries all of it.
"""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.strangers.corpus import KINDS, Corpus, Kind, open_corpus
from tests.strangers.mutations import code, pickled, write_outside
from tests.strangers.watch import watch

NUM_CASES = 20  # of each kind


@pytest.fixture(scope="module")
def corpus():
    with open_corpus() as found:
        yield found


@pytest.mark.parametrize("kind", KINDS)
def test_a_stranger_runs_reads_and_writes_nothing(corpus: Corpus, kind: Kind) -> None:
    assert corpus.try_good(kind).ending == "taken"
    tried = [corpus.try_case(kind, number) for number in range(NUM_CASES)]
    assert [each for each in tried if each[1].ending not in ("refused", "taken")] == []
    assert sum(found.ending == "refused" for _, found in tried) > NUM_CASES / 4


def read_by_a_library(folder: Path) -> None:
    from tokenizers import Tokenizer

    Tokenizer.from_file(str(folder.parent / "outside" / "secret.json"))


FAULTS = {
    "ran": lambda folder: exec(code(folder.parent / "outside")),
    "ran by a pickle": lambda folder: __import__("pickle").loads(
        pickled(folder.parent / "outside")
    ),
    "ran a program": lambda folder: subprocess.run(["/bin/true"], check=True),
    "ran a connection": lambda folder: socket.create_connection(("127.0.0.1", 9)),
    "read": lambda folder: (folder.parent / "outside" / "secret.txt").read_text(),
    "read by another language": lambda folder: suppressed(read_by_a_library, folder),
    "wrote": lambda folder: (folder / "new").touch(),
    "wrote a folder": lambda folder: (folder.parent / "outside" / "new").mkdir(),
    "traceback": lambda folder: 1 / 0,
    "slow": lambda folder: os.kill(os.getpid(), 9),
}


def suppressed(function, folder):
    try:
        function(folder)
    except Exception:
        return


@pytest.mark.parametrize("name", FAULTS)
def test_what_goes_wrong_is_noticed(tmp_path: Path, name: str) -> None:
    (tmp_path / "case").mkdir()
    write_outside(tmp_path / "outside")
    found = watch(
        FAULTS[name],
        tmp_path / "case",
        outside=tmp_path / "outside",
        scratch=tmp_path / "scratch",
    )
    assert found.ending == name.partition(" ")[0], found
