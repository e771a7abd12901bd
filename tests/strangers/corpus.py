"""The corpus: hostile task sets, files of instances and folders of models, each by its number.

    with open_corpus() as corpus:
        case, found = corpus.try_case("models", 7)

The same number makes the same case anywhere. The kinds are tried as `sets.py`, `instances.py` and
`models.py` say, under `watch.py`.
"""

import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from tests.strangers import instances, models, sets
from tests.strangers.mutations import write_outside
from tests.strangers.watch import Found, watch

Kind = Literal["sets", "instances", "models"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_OPENERS = {"sets": sets.open_it, "instances": instances.open_it, "models": models.open_it}


class Corpus:
    """What is changed, and a place for what comes of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        sets.write_good(folder / "sets")
        models.write_good(folder / "models")

    def try_good(self, kind: Kind) -> Found:
        """Open what is changed as it is: it must be taken."""
        return self._try(kind, None)[1]

    def try_case(self, kind: Kind, number: int) -> tuple[str, Found]:
        """Make a case and open it; returns what was done to it, and what it did."""
        return self._try(kind, random.Random(f"{kind} {number}"))

    def _try(self, kind: Kind, rng: random.Random | None) -> tuple[str, Found]:
        place = Path(tempfile.mkdtemp(dir=self._folder))
        case, outside = place / "case", place / "outside"
        write_outside(outside)
        if kind == "instances":
            told = instances.make(rng, case, outside) if rng else instances.make_good(case)
        elif rng is None:
            told = str(shutil.copytree(self._folder / kind, case))
        else:
            make = sets.make if kind == "sets" else models.make
            told = make(rng, self._folder / kind, case, outside)
        try:
            return told, watch(_OPENERS[kind], case, outside=outside, scratch=place / "scratch")
        finally:
            shutil.rmtree(place)


@contextmanager
def open_corpus() -> Iterator[Corpus]:
    """Yield a corpus in a folder that goes away."""
    with tempfile.TemporaryDirectory(prefix="strangers-") as folder:
        yield Corpus(Path(folder))
