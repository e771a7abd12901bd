"""How often GRPO's own episodes solved each task: solves.json in its run folder.

    {"t_0123456789ab": {"samples": 16, "solved": 5}, ...}

Written anew after each step, from what the step's episodes say; the episodes stay the only truth,
from which a resume counts again. All policies of the run count alike, the early ones too.
"""

import json
from collections.abc import Mapping

from envs.files import write_whole
from rewards.solves import Solves
from train.stages.run_dir import StageDir


def write_solves(stage: StageDir, solves: Mapping[str, Solves]) -> None:
    """Write what was counted, by task id; only the main process does."""
    if stage.is_main:
        counts = {name: count._asdict() for name, count in sorted(solves.items())}
        write_whole(stage.path / "solves.json", json.dumps(counts, indent=0) + "\n")


def read_solves(stage: StageDir) -> dict[str, Solves]:
    """Return what a run has counted, by task id; nothing if it has not played."""
    return {name: Solves(**count) for name, count in stage.read_json("solves.json").items()}
