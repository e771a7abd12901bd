"""Opens what a stage needs to play episodes: the task set, the run's tokenizer and the workers."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from envs.errors import UserError
from envs.grading.graders import Equipment
from envs.tasks.store import TaskStore
from envs.workers.pool import WorkerPool
from envs.workers.workbench import Workbench, open_workbench
from train.config.settings import Settings
from train.models.model import chat_format, load_tokenizer, run_tokenizer
from train.rollouts.runner import DEADLINE_S, Arena
from train.stages.run_dir import cache_dir, tasks_dir

_WORKERS_BESIDE_CORES, _MOST_WORKERS = 4, 32  # as many as asyncio gives threads: some only wait


@contextmanager
def open_arena(
    settings: Settings,
    *,
    max_turns: int | None = None,
    tokenizer: Any = None,
    deadline_s: float = DEADLINE_S,
    open_bench: Callable[..., AbstractContextManager[Workbench]] = open_workbench,
) -> Iterator[Arena]:
    """Open the arena of a run and end its workers when it is closed.

    Args:
        settings: The experiment; its tasks and tokenizer must exist.
        max_turns: Turns per episode, if other than `context.max_turns`.
        tokenizer: If other than the run's, which may not be there before a dry run.
        deadline_s: Wall seconds for the tools of one turn, or a grading.
        open_bench: What opens the workbench of each worker.

    Raises:
        UserError: As `open_tasks`; or the chat template does not serve.
    """
    store, equipment = open_tasks(settings)
    chat = chat_format(tokenizer or load_tokenizer(run_tokenizer(settings)), settings)
    opener = partial(
        open_bench,
        store,
        equipment=equipment,
        second_runner_share=settings.reward.second_runner_share,
        cache_dir=cache_dir(settings),
    )
    num_workers = min(_MOST_WORKERS, len(os.sched_getaffinity(0)) + _WORKERS_BESIDE_CORES)
    turns = max_turns or settings.context.max_turns
    with WorkerPool(
        opener, num_workers=num_workers, near=lambda task_id: store.hidden[task_id].runtime
    ) as pool:
        yield Arena(store, chat, settings, pool, turns, deadline_s)


def open_tasks(settings: Settings) -> tuple[TaskStore, Equipment]:
    """Open the task set, narrowed to the asked difficulty, with what its graders need.

    Raises:
        UserError: It is damaged, or nothing is left of a split; there is no sandbox, no second
            runner where one is asked for, or nothing that it would run.
    """
    store = TaskStore.open(tasks_dir(settings)).narrowed(settings.tasks.difficulty)
    share, cache = settings.reward.second_runner_share, cache_dir(settings)
    if share and all(hidden.grader == "io" for hidden in store.hidden.values()):
        raise UserError(
            "reward.second_runner_share has no suite to run a second time",
            got=f"the io grader alone in {store.folder}",
            remedy="set it to 0, or name tasks of real projects in tasks.dir",
        )
    return store, Equipment.find(store, second_runner_share=share, cache_dir=cache)
