"""How both recipes open their stage.

Tests: tests/train/recipes/test_dry_run_refuses.py.
"""

from collections.abc import Sequence

from accelerate import PartialState

from train.config.load import Command
from train.models.model import check_base
from train.rl.trackers import check_tracker
from train.stages.open_stage import open_stage
from train.stages.run_dir import Stage, StageDir
from train.stages.stage_log import keep_log


def open_training(command: Command, name: Stage, *, inputs: Sequence[StageDir]) -> StageDir:
    """Open the stage's folder and its log, in all processes; a dry run writes nothing.

    Raises:
        UserError: The base cannot be loaded, the tracker is not there, or as `open_stage`.
    """
    check_base(command.settings)
    check_tracker(command.settings.run.report_to)
    processes = PartialState()
    stage = open_stage(
        command.settings,
        name,
        resume=command.resume,
        clean=command.clean,
        is_main=processes.is_main_process,
        inputs=inputs,
        dry_run=command.dry_run,
    )
    if not command.dry_run:
        processes.wait_for_everyone()  # the main process may have deleted the last run
        keep_log(stage.path, rank=processes.process_index, stdout=True)
    return stage
