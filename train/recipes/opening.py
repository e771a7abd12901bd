"""Refusals on the way to a stage's first step; a dry run meets the same ones, and shows first.

    opening = Opening(command)
    with opening.check():
        check_gate(sft, force=command.force)
    stage = opening.open_stage("grpo", inputs=[tasks, sft], world_size=1)
    ...
    opening.end()

What a dry run can do without (a warm start that is still missing, its gate, a folder that holds a
run) is kept until it has shown the rest. Everything else is refused where it is met.

Tests: tests/train/recipes/test_dry_run_refuses.py.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from envs.errors import UserError
from train.config.load import Command
from train.models.distributed import join
from train.models.model import check_base
from train.stages.open_stage import open_stage
from train.stages.output import keep_log
from train.stages.run_dir import Stage, StageDir, stage_dir


@dataclass
class Opening:
    """Raises a refusal at once, or keeps the first one of a dry run, which opens nothing."""

    command: Command
    refused: UserError | None = None

    @contextmanager
    def check(self) -> Iterator[None]:
        """Keep what the block refuses, if this is a dry run."""
        try:
            yield
        except UserError as error:
            if not self.command.dry_run:
                raise
            self.refused = self.refused or error

    def open_stage(self, name: Stage, *, inputs: Sequence[StageDir], world_size: int) -> StageDir:
        """Join the other processes, open the stage's folder and its log.

        Raises:
            UserError: The base cannot be loaded, processes are missing, or as `open_stage` of
                `train/stages/run_dir.py`.
        """
        command = self.command
        check_base(command.settings)
        processes = join(world_size=world_size)
        stage = stage_dir(command.settings, name)
        with self.check():
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

    def end(self) -> None:
        """Raise what was kept."""
        if self.refused:
            raise self.refused
