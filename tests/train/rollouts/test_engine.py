"""A batch draws what each episode would draw alone, and reports the log-probs of its draws."""

import asyncio
import copy
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from envs.records import Sample
from tests.train import tiny_policy
from tests.train.rollouts.turns import EOT, PROMPTS, SHAPE, check_logps, seen_by
from train.rl.grpo_trainer import RolloutBatch, StepRequest
from train.rollouts.engine import Engine
from train.rollouts.running_batch import RunningBatch, TurnRequest, draw


@pytest.fixture(scope="module")
def model() -> Qwen2ForCausalLM:
    torch.manual_seed(3)
    return Qwen2ForCausalLM(Qwen2Config(**SHAPE)).eval()


def serve(
    model: Qwen2ForCausalLM,
    prompts: list[tuple[int, ...]],
    *,
    temperature: float = 1.0,
    engine: Engine | None = None,
) -> list[Sample]:
    engine = engine or Engine(model, (EOT,), max_new_tokens=12, temperature=temperature)

    async def run() -> list[Sample]:
        async def one(index: int, prompt: tuple[int, ...]) -> Sample:
            generator = torch.Generator().manual_seed(index)
            try:
                return await engine.sample(prompt, generator)
            finally:
                engine.leave()

        engine.join(len(prompts))
        return list(await asyncio.gather(*(one(i, p) for i, p in enumerate(prompts))))

    return asyncio.run(run())


def test_sampling_stops_at_every_stop_id_and_keeps_it(model: Qwen2ForCausalLM) -> None:
    (whole,) = serve(model, PROMPTS[:1])
    stop = whole.token_ids[4]
    engine = Engine(model, (EOT, stop), max_new_tokens=12)
    (cut,) = serve(model, PROMPTS[:1], engine=engine)
    length = whole.token_ids.index(stop) + 1
    assert cut.token_ids == whole.token_ids[:length]
    assert engine.tokens_generated == length
    assert cut.finish == "stop"


def test_a_row_samples_the_same_alone_and_in_a_batch(model: Qwen2ForCausalLM) -> None:
    together = serve(model, PROMPTS)
    assert len({len(sample.token_ids) for sample in together}) > 1, "rows end at different times"
    for index, prompt in enumerate(PROMPTS):
        engine = Engine(model, (EOT,), max_new_tokens=12)

        async def alone(i: int = index, p: tuple[int, ...] = prompt, e: Engine = engine) -> Sample:
            e.join(1)
            return await e.sample(p, torch.Generator().manual_seed(i))

        sample = asyncio.run(alone())
        assert sample.token_ids == together[index].token_ids
        torch.testing.assert_close(
            torch.tensor(sample.sampling_logps),
            torch.tensor(together[index].sampling_logps),
            rtol=1e-4,
            atol=1e-5,
        )


def test_batches_do_not_depend_on_who_is_faster(model: Qwen2ForCausalLM) -> None:
    def batches(delay_seed: int) -> list[list[tuple[int, ...]]]:
        seen: list[list[tuple[int, ...]]] = []
        engine = Engine(model, (EOT,), max_new_tokens=1, in_waves=True)
        take = engine._take_pending

        def note(batch: RunningBatch) -> list[TurnRequest]:
            taken = take(batch)
            if taken:
                seen.append([request.prompt_ids for request in taken])
            return taken

        engine._take_pending = note  # type: ignore[method-assign]
        delays = random.Random(delay_seed)
        queue = iter(enumerate([*PROMPTS, *PROMPTS]))

        async def work() -> None:
            for index, prompt in queue:
                generator = torch.Generator().manual_seed(index)
                for _ in range(1 + index % 3):
                    await asyncio.sleep(delays.random() / 50)
                    await engine.sample(prompt, generator)
            engine.leave()

        async def run() -> None:
            engine.join(4)
            await asyncio.gather(*(work() for _ in range(4)))

        asyncio.run(run())
        return seen

    first = batches(0)
    assert first == batches(1) == batches(2)
    assert max(map(len, first)) == 4


def test_reported_logps_are_those_of_a_forward_pass(model: Qwen2ForCausalLM) -> None:
    for prompt, sample in zip(PROMPTS, serve(model, PROMPTS), strict=True):
        check_logps(model, prompt, sample)


def test_an_episode_joins_at_the_next_token_and_holds_nobody_up(model: Qwen2ForCausalLM) -> None:
    num_rows: list[int] = []
    with seen_by(model, lambda ids_BT: num_rows.append(len(ids_BT))):
        engine = Engine(model, (), max_new_tokens=30)  # no end before the limit
        order: list[int] = []

        async def one(index: int, *, after: int) -> None:
            while len(num_rows) < after:
                await asyncio.sleep(0)
            await engine.sample(PROMPTS[index], torch.Generator().manual_seed(index))
            order.append(index)

        async def run() -> None:
            await asyncio.gather(one(0, after=0), one(1, after=11))

        asyncio.run(run())
    # read, 10 tokens alone; the second is read, and both are rows until the first has its 30
    assert num_rows == [1] + 10 * [1] + [1] + 20 * [2] + 10 * [1]
    assert order == [0, 1]


def test_one_whose_task_was_cancelled_leaves_the_batch(model: Qwen2ForCausalLM) -> None:
    engine = Engine(model, (), max_new_tokens=10_000)

    async def run() -> Sample:
        gone = asyncio.create_task(engine.sample(PROMPTS[0], torch.Generator()))
        await asyncio.sleep(0.05)
        gone.cancel()
        engine.max_new_tokens = 4
        return await engine.sample(PROMPTS[1], torch.Generator())

    asyncio.run(run())
    assert engine._batch is not None and not engine._batch.rows


def test_an_error_in_the_model_reaches_all_who_wait(model: Qwen2ForCausalLM) -> None:
    def fail(ids_BT: torch.Tensor) -> None:
        raise RuntimeError("out of memory")

    with seen_by(model, fail), pytest.raises(RuntimeError, match="out of memory"):
        serve(model, PROMPTS)


def test_samples_end_with_the_end_of_turn_or_at_the_limit(model: Qwen2ForCausalLM) -> None:
    for sample in serve(model, PROMPTS * 4):
        if sample.finish == "stop":
            assert sample.token_ids.index(EOT) == len(sample.token_ids) - 1
        else:
            assert EOT not in sample.token_ids and len(sample.token_ids) == 12


def test_greedy_takes_the_most_likely_token(model: Qwen2ForCausalLM) -> None:
    (sample,) = serve(model, [(5, 6, 7)], temperature=0.0)
    with torch.no_grad():
        first = model(torch.tensor([[5, 6, 7]])).logits[0, -1].argmax().item()
    assert sample.token_ids[0] == first


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]]).repeat(20_000, 1)
    uniforms = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    picked, logps = draw(logits, uniforms, temperature=1.0)
    shares = torch.bincount(picked, minlength=4) / 20_000
    torch.testing.assert_close(shares, torch.softmax(logits[0], -1), rtol=0.0, atol=0.012)
    expected = torch.log_softmax(logits, -1).gather(-1, picked[:, None])[:, 0]
    torch.testing.assert_close(logps, expected)


def test_an_impossible_token_is_never_drawn() -> None:
    logits = torch.tensor([[float("-inf"), 0.0, float("-inf")]]).repeat(3, 1)
    picked, _ = draw(logits, torch.tensor([0.0, 0.5, 1.0 - 1e-7]), temperature=1.0)
    assert picked.tolist() == [1, 1, 1]


def test_a_model_in_training_acts_in_the_type_of_its_weights(tmp_path: Path) -> None:
    model = tiny_policy.policy()
    alone = serve(copy.deepcopy(model).eval(), PROMPTS)
    found: list[Sample] = []
    rows = tiny_policy.always(tiny_policy.groups_of_rows(1))

    def rollouts(request: StepRequest, acting: Any) -> RolloutBatch:
        found.extend(serve(acting, PROMPTS))
        return rows(request, acting)

    trainer = tiny_policy.trainer(model, tmp_path, rollouts, bf16=True, max_steps=1, num_groups=1)
    trainer.train()
    assert found == alone, "autocast is for the training passes"
