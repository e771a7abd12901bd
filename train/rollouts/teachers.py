"""Who is sampled for demonstrations: a teacher behind a chat server, or a policy of one's own.

Tests: tests/train/rollouts/test_rejection.py.
"""

from collections.abc import Callable
from datetime import datetime

from transformers import PreTrainedTokenizerFast

from envs.prompts import system_prompt
from train.config.settings import Settings
from train.models.vocabulary import new_tokenizer
from train.rollouts.backend import make_sampler
from train.rollouts.concurrency import count_tool_workers
from train.rollouts.endpoint import EndpointSampler, check_chatml
from train.rollouts.policy_sources import PolicySource
from train.rollouts.rejection import AnswerFile, Sampled, sample_demonstrations
from train.rollouts.runner import open_runner
from train.servers.chat import Endpoint
from train.stages.run_dir import StageDir
from train.stages.stage_log import say

OnPlayed = Callable[[int, int], None]


def sample_teacher(
    settings: Settings,
    stage: StageDir,
    endpoint: Endpoint,
    *,
    num_samples: int,
    on_played: OnPlayed,
    now: datetime,
) -> Sampled:
    """Sample a chat server; its usage becomes the bill of all commands on this stage so far.

    Where the run's prompt says nothing of the tools, the server is told of them all the same: the
    record holds the run's prompt, which is what the student will see.
    """
    _keep_tokenizer(stage, lambda: new_tokenizer(settings, now=now))
    answers, most = AnswerFile(stage.path), settings.grpo.generation_batch
    endpoint.usage.add(answers.usage)
    with open_runner(settings) as runner:
        check_chatml(runner.chat)
        system = None
        if settings.prompt.tools == "none":
            strategy, without = settings.context.strategy, settings.context.without
            example = runner.chat.example
            system = system_prompt("brief", strategy, example=example, without=without)
        sampler = EndpointSampler(
            endpoint,
            runner.chat,
            max_new_tokens=settings.context.max_new_tokens,
            max_rows=most,
            system=system,
            kept=answers.kept,
            on_answer=answers.add,
        )
        try:
            return sample_demonstrations(
                runner,
                sampler,
                stage.path,
                name="teacher",
                num_samples=num_samples,
                concurrency=most,
                on_played=on_played,
            )
        finally:
            say(f"{endpoint.model}: {endpoint.usage.describe()}")


def sample_policy(
    settings: Settings,
    stage: StageDir,
    source: PolicySource,
    tokenizer: PreTrainedTokenizerFast,
    *,
    num_samples: int,
    on_played: OnPlayed,
) -> Sampled:
    """Sample a policy of one's own, in this process, with the tokenizer it was trained with."""
    _keep_tokenizer(stage, lambda: tokenizer)
    with open_runner(settings) as runner:
        sampler = make_sampler(source.load_for_acting(tokenizer), runner.chat, settings)
        waiting = 0 if sampler.in_waves else count_tool_workers(settings)
        return sample_demonstrations(
            runner,
            sampler,
            stage.path,
            name="policy",
            num_samples=num_samples,
            concurrency=sampler.max_rows + waiting,
            on_played=on_played,
        )


def _keep_tokenizer(stage: StageDir, make: Callable[[], PreTrainedTokenizerFast]) -> None:
    """Write the run's tokenizer, unless it is there: on a resume the date in its template stays."""
    folder = stage.path / "tokenizer"
    if not (folder / "tokenizer.json").is_file():
        make().save_pretrained(str(folder))
