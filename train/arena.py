"""Opens what a stage needs to play episodes: the task set, the run's tokenizer and the graders."""

from collections.abc import Iterator
from contextlib import contextmanager

from envs.grading import make_grader
from envs.tasks.store import TaskStore
from train.model import chat_format, load_tokenizer, run_tokenizer
from train.rollouts import Arena
from train.run_dir import cache_dir, tasks_dir
from train.settings import Settings


@contextmanager
def open_arena(settings: Settings, *, max_turns: int | None = None) -> Iterator[Arena]:
    """Open the arena of a run and close its sandboxes at the end.

    Args:
        settings: The experiment; its tasks and tokenizer must exist.
        max_turns: Turns per episode, if other than `context.max_turns`.

    Raises:
        UserError: There is no sandbox, or no second runner where one is asked for.
    """
    store = TaskStore.open(tasks_dir(settings)).narrowed(settings.tasks.difficulty)
    chat = chat_format(load_tokenizer(run_tokenizer(settings)), settings)
    share = settings.reward.second_runner_share
    cache = cache_dir(settings)
    with make_grader(store, second_runner_share=share, cache_dir=cache) as grader:
        turns = max_turns or settings.context.max_turns
        yield Arena(store, chat, settings, grader, turns)
