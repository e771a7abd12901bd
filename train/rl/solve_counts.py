"""How often GRPO's own episodes solved each task: solves.json in its run folder.

    {"t_0123456789ab": {"samples": 16, "solved": 5}, ...}

Written anew after each step, from what the step's episodes say; the episodes stay the only truth,
from which a resume counts again. All policies of the run count alike, the early ones too.
"""

import json
from collections.abc import Iterable

from envs.files import write_whole
from envs.records import Episode
from rewards.solves import Solves, count_solves
from train.stages.run_dir import StageDir


class SolveCounts:
    """Keeps solves.json of a run.

    Args:
        stage: Whose episodes are counted; only the main process writes.
    """

    def __init__(self, stage: StageDir) -> None:
        self._stage = stage
        self._counts: dict[str, Solves] = {}

    def add(self, episodes: Iterable[Episode]) -> None:
        """Count the episodes of a step."""
        self._counts = count_solves(episodes, before=self._counts)
        self._write()

    def restore(self) -> None:
        """Count what is recorded so far."""
        self._counts = {}
        for name in self._stage.list_episodes("step_"):
            self._counts = count_solves(self._stage.read_episodes(name), before=self._counts)
        if self._counts:
            self._write()

    def _write(self) -> None:
        if self._stage.is_main:
            counts = {name: count._asdict() for name, count in sorted(self._counts.items())}
            write_whole(self._stage.path / "solves.json", json.dumps(counts, indent=0) + "\n")


def read_solves(stage: StageDir) -> dict[str, Solves]:
    """Return what a run has counted, by task id; nothing if it has not played."""
    return {name: Solves(**count) for name, count in stage.read_json("solves.json").items()}
