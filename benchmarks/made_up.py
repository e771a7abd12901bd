"""Made-up episodes and rows for measurements without tasks: random ids, alike within a group."""

import asyncio
import random
from collections.abc import Sequence

import torch

from envs.records import Ids, Segment
from train.rollouts.engine import Engine
from train.servers import client
from train.servers.client import Sampling

GROUP_SIZE = 8


async def sample_all(engine: Engine, prompts: Sequence[Ids]) -> None:
    """Sample one turn for each prompt, all at once."""
    engine.join(len(prompts))
    seeds = [torch.Generator().manual_seed(place) for place in range(len(prompts))]
    await asyncio.gather(*map(engine.sample, prompts, seeds))


async def play_all(engine: Engine, prompts: Sequence[Ids], *, num_turns: int) -> list[Segment]:
    """Play episodes of several turns, with as many tokens of results; returns their rows."""
    vocab_size = engine.model.config.vocab_size

    async def play(place: int) -> Segment:
        drawn, generator = random.Random(place), torch.Generator().manual_seed(place)
        ids: Ids = ()
        mask: list[int] = []
        logps: list[float] = []
        for turn in range(num_turns):
            read = draw_ids(drawn, engine.max_new_tokens, vocab_size=vocab_size)
            read = read if turn else prompts[place]
            sample = await engine.sample(ids + read, generator)
            ids += read + sample.token_ids
            mask += [0] * len(read) + [1] * len(sample.token_ids)
            logps += [*(0.0,) * len(read), *sample.sampling_logps]
        engine.leave()
        return Segment(
            episode_id=str(place),
            token_ids_T=ids,
            loss_mask_T=tuple(mask),
            sampling_logps_T=tuple(logps),
            advantage=0.5 if place % 2 else -0.5,
        )

    engine.join(len(prompts))
    return list(await asyncio.gather(*map(play, range(len(prompts)))))


async def ask_all(url: str, model: str, prompts: Sequence[Ids], *, sampling: Sampling) -> None:
    """Sample one turn for each prompt from a vLLM server, all at once."""
    async with client.new_client(max_connections=len(prompts)) as connection:
        asked = (
            client.complete(connection, url, ids, model=model, sampling=sampling, seed=place)
            for place, ids in enumerate(prompts)
        )
        await asyncio.gather(*asked)


def make_prompts(num_prompts: int, *, num_tokens: int, vocab_size: int) -> list[Ids]:
    """Return made-up prompts, alike within a group."""
    drawn, found = random.Random(0), list[Ids]()
    while len(found) < num_prompts:
        ids = draw_ids(drawn, num_tokens, vocab_size=vocab_size)
        found += [ids] * GROUP_SIZE
    return found[:num_prompts]


def draw_ids(drawn: random.Random, num_tokens: int, *, vocab_size: int) -> Ids:
    """Return made-up token ids."""
    return tuple(drawn.choices(range(vocab_size), k=num_tokens))


def make_group_rows(num_rows: int, *, group_size: int, vocab_size: int) -> list[Segment]:
    """Return training rows as groups of episodes give them, of 700 to 1,500 tokens.

    All begin with the same 300 tokens, as a system prompt, those of a group with 350 more, as a
    task; then come turns of 30 to 90 sampled tokens, and results of 40 to 200.
    """
    drawn, rows = random.Random(0), list[Segment]()
    system = task = draw_ids(drawn, 300, vocab_size=vocab_size)
    for place in range(num_rows):
        if place % group_size == 0:
            task = draw_ids(drawn, 350, vocab_size=vocab_size)
        mask = [0] * (len(system) + len(task))
        for turn in range(drawn.randint(2, 5)):
            mask += [0] * (drawn.randint(40, 200) if turn else 0) + [1] * drawn.randint(30, 90)
        own = draw_ids(drawn, len(mask) - len(system) - len(task), vocab_size=vocab_size)
        row = make_row(system + task + own, place)
        rows.append(row.model_copy(update={"loss_mask_T": tuple(mask)}))
    return rows


def make_row(ids: Ids, place: int) -> Segment:
    """Return a training row, half of whose tokens were sampled."""
    start = len(ids) // 2
    return Segment(
        episode_id=str(place),
        token_ids_T=ids,
        loss_mask_T=(0,) * start + (1,) * (len(ids) - start),
        sampling_logps_T=(0.0,) * start + (-1.0,) * (len(ids) - start),
        advantage=0.5 if place % 2 else -0.5,
    )
