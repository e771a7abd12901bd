"""Episodes of several turns on small random models, and what they are held against, for tests."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel

from envs.records import Ids, Sample
from train.rollouts.engine import Engine

EOT = 1
SHAPE = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
}
PROMPTS = [(5, 6, 7), (9,) * 20, (4, 8), (30, 31, 32, 33), (11, 12), (13,) * 7]

Turns = list[tuple[Ids, Sample]]


async def at_once(episode: int, turn: int) -> None:
    """Tools that take no time."""


def waiting(seed: int) -> Callable[[int, int], Awaitable[None]]:
    """Return tools that take at random from 0 to 12 rounds of the event loop."""
    drawn = random.Random(seed)

    async def wait(episode: int, turn: int) -> None:
        for _ in range(drawn.randrange(13)):
            await asyncio.sleep(0)

    return wait


def play_turns(
    engine: Engine,
    *,
    prompts: Sequence[Ids] = PROMPTS,
    num_turns: int = 5,
    tools: Callable[[int, int], Awaitable[None]] = at_once,
) -> list[Turns]:
    """Play an episode from every prompt, each rewritten once; returns the turns of each."""

    async def play(index: int, prompt: Ids) -> Turns:
        generator = torch.Generator().manual_seed(index)
        turns: Turns = []
        for turn in range(num_turns):
            await tools(index, turn)
            sample = await engine.sample(prompt, generator)
            turns.append((prompt, sample))
            prompt += (*sample.token_ids, *range(20, 25 + index))
            if turn == num_turns // 2:  # the context is rewritten after its second token
                prompt = prompt[:2] + prompt[5:]
        engine.leave()
        return turns

    async def run() -> list[Turns]:
        engine.join(len(prompts))
        return list(await asyncio.gather(*(play(i, p) for i, p in enumerate(prompts))))

    return asyncio.run(run())


def check_logps(model: PreTrainedModel, prompt: Ids, sample: Sample) -> None:
    """Check that reported log-probs are those of one forward pass over the whole context."""
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *sample.token_ids]])).logits
    logps = torch.log_softmax(logits[0, len(prompt) - 1 : -1].float(), dim=-1)
    expected = logps.gather(-1, torch.tensor(sample.token_ids)[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(sample.sampling_logps), expected, rtol=1e-4, atol=2e-5)


@contextmanager
def seen_by(model: PreTrainedModel, look: Callable[[torch.Tensor], Any]) -> Iterator[None]:
    """Let `look` see the ids of every forward pass, of shape (B, T)."""
    hook = model.register_forward_pre_hook(
        lambda _, args, given: look(given["input_ids"]) and None, with_kwargs=True
    )
    try:
        yield
    finally:
        hook.remove()
