"""Who shares a batch, when and in how much memory: no episode's tokens depend on it."""

import asyncio
import random
from typing import Any

import pytest
import torch
from transformers import (
    BambaConfig,
    BambaForCausalLM,
    FalconH1Config,
    FalconH1ForCausalLM,
    Mamba2Config,
    Mamba2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3NextConfig,
    Qwen3NextForCausalLM,
)

from tests.train.rollouts.turns import (
    EOT,
    PROMPTS,
    SHAPE,
    Turns,
    at_once,
    check_logps,
    play_turns,
    seen_by,
    waiting,
)
from train.rollouts.engine import Engine
from train.rollouts.kv_cache import PrefixStore


@pytest.fixture(scope="module")
def model() -> Qwen2ForCausalLM:
    torch.manual_seed(3)
    return Qwen2ForCausalLM(Qwen2Config(**SHAPE)).eval()


@pytest.fixture(scope="module")
def sliding() -> MistralForCausalLM:
    torch.manual_seed(3)
    return MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=8)).eval()


def tokens_of(episodes: list[Turns]) -> list[list[tuple[int, ...]]]:
    return [[sample.token_ids for _, sample in turns] for turns in episodes]


@pytest.mark.parametrize("name", ["model", "sliding"])
@pytest.mark.parametrize("tools", [at_once, waiting(0)], ids=["at once", "waiting"])
def test_logps_are_those_of_a_forward_pass(
    name: str, tools: Any, request: pytest.FixtureRequest
) -> None:
    acting = request.getfixturevalue(name)
    engine = Engine(acting, (EOT,), max_new_tokens=12, max_rows=4, prefill_tokens=16)
    for turns in play_turns(engine, tools=tools):
        for prompt, sample in turns:
            check_logps(acting, prompt, sample)


@pytest.mark.parametrize("name", ["model", "sliding"])
def test_continuous_is_waves_where_all_come_together(
    name: str, request: pytest.FixtureRequest
) -> None:
    acting = request.getfixturevalue(name)
    arrived: list[int] = []
    together = asyncio.Event()

    async def wait_for_all(episode: int, turn: int) -> None:
        nonlocal together
        arrived.append(episode)
        if len(arrived) % len(PROMPTS):
            await together.wait()
        else:
            together.set()
            together = asyncio.Event()

    found = []
    for in_waves in (False, True):
        engine = Engine(acting, (EOT,), max_new_tokens=12, temperature=0.0, in_waves=in_waves)
        found.append(play_turns(engine, tools=at_once if in_waves else wait_for_all))
    assert tokens_of(found[0]) == tokens_of(found[1])
    # rows stand in another order, by which some CPUs round otherwise
    first, other = (
        [logp for turns in one for _, s in turns for logp in s.sampling_logps] for one in found
    )
    assert first == pytest.approx(other, abs=1e-5)


@pytest.mark.parametrize("sliding_window", [None, 8])
def test_no_order_of_admission_changes_a_token(sliding_window: int | None) -> None:
    torch.manual_seed(3)
    shape = {**SHAPE, "num_hidden_layers": 1, "sliding_window": sliding_window}
    acting = MistralForCausalLM(MistralConfig(**shape)).eval().double()
    prompts = [*PROMPTS[:3], PROMPTS[1]]  # two of a group
    alone = Engine(acting, (EOT,), max_new_tokens=5, max_rows=1)
    expected = tokens_of(play_turns(alone, prompts=prompts, num_turns=2))
    for order in range(100):
        drawn = random.Random(order)
        engine = Engine(
            acting,
            (EOT,),
            max_new_tokens=5,
            max_rows=drawn.randint(1, 4),
            prefill_tokens=drawn.choice([3, 16, 4096]),
            kept=PrefixStore(drawn.choice([0, 1e4, 1e9])),
        )
        found = play_turns(engine, prompts=prompts, num_turns=2, tools=waiting(order))
        assert tokens_of(found) == expected, order


def test_what_turns_share_is_read_once(model: Qwen2ForCausalLM) -> None:
    read: list[int] = []
    with seen_by(model, lambda ids_BT: read.append(ids_BT.numel())):
        engine = Engine(model, (EOT,), max_new_tokens=12)
        played = [turn for turns in play_turns(engine) for turn in turns]
    assert sum(read) < 0.7 * sum(len(p) + len(s.token_ids) for p, s in played), "read again"


@pytest.mark.parametrize("bound", [0.0, 3e4, 1e9])
def test_what_is_kept_stays_within_its_bound(model: Qwen2ForCausalLM, bound: float) -> None:
    most = 0.0

    def look(ids_BT: torch.Tensor) -> None:
        nonlocal most
        most = max(most, engine.kept.num_bytes)

    with seen_by(model, look):
        engine = Engine(model, (EOT,), max_new_tokens=12, kept=PrefixStore(bound))
        play_turns(engine, tools=waiting(1))
    assert most <= bound and (most > 0 or not bound)


def test_a_group_reads_its_prompt_once(model: Qwen2ForCausalLM) -> None:
    prompt = tuple(range(5, 35))
    shapes: list[torch.Size] = []
    with seen_by(model, lambda ids_BT: shapes.append(ids_BT.shape)):
        engine = Engine(model, (), max_new_tokens=2)
        play_turns(engine, prompts=[prompt] * 8, num_turns=1)
        play_turns(engine, prompts=[prompt] * 8, num_turns=1, tools=waiting(0))
    read = [shape for shape in shapes if shape[1] > 1]
    assert read == [torch.Size([1, 29])]
    assert shapes[1:3] == [torch.Size([8, 1])] * 2


def test_another_group_reads_no_system_prompt(model: Qwen2ForCausalLM) -> None:
    system = tuple(range(4, 34))
    read: list[int] = []
    with seen_by(model, lambda ids_BT: read.append(ids_BT.numel())):
        engine = Engine(model, (), max_new_tokens=1)
        play_turns(engine, prompts=[(*system, 35, 36, 37)], num_turns=1)
        engine.kept._kept[99] = engine.kept._kept.pop(0)  # it was another episode's
        play_turns(engine, prompts=[(*system, 36, 35, 38)], num_turns=1)
    assert read == [32, 1, 2, 1]


@pytest.mark.parametrize("prefill_tokens", [4, 16, 64])
def test_no_pass_reads_more_than_its_bound(model: Qwen2ForCausalLM, prefill_tokens: int) -> None:
    sizes: list[int] = []
    with seen_by(model, lambda ids_BT: sizes.append(ids_BT.numel() * (ids_BT.shape[1] > 1))):
        engine = Engine(model, (EOT,), max_new_tokens=12, prefill_tokens=prefill_tokens)
        play_turns(engine, tools=waiting(2))
    assert prefill_tokens / 2 < max(sizes) <= prefill_tokens


def test_only_rows_that_run_are_computed(model: Qwen2ForCausalLM) -> None:
    rows: list[int] = []
    with seen_by(model, lambda ids_BT: rows.append(len(ids_BT) * (ids_BT.shape[1] == 1))):
        engine = Engine(model, (EOT,), max_new_tokens=200)
        episodes = play_turns(engine, num_turns=2)
    lengths = [len(sample.token_ids) for turns in episodes for _, sample in turns]
    assert len(set(lengths)) > 3 and max(lengths) < 200, "all end by themselves, at other times"
    # one more for each prompt of which a single token had to be read
    assert sum(lengths) <= sum(rows) <= sum(lengths) + len(lengths)
    assert engine.tokens_generated == sum(lengths)


HYBRID = {**SHAPE, "num_hidden_layers": 2, "num_key_value_heads": 1, "pad_token_id": 0}
MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1}


def bamba() -> PreTrainedModel:
    """Mamba 2 and attention in turns."""
    return BambaForCausalLM(BambaConfig(**HYBRID, **MAMBA, attn_layer_indices=[1]))


def falcon_h1() -> PreTrainedModel:
    """Mamba 2 and attention side by side in each layer."""
    config = FalconH1Config(**HYBRID, **MAMBA, mamba_d_ssm=64, head_dim=16)
    return FalconH1ForCausalLM(config)


def qwen3_next() -> PreTrainedModel:
    """Gated delta net and attention in turns."""
    config = Qwen3NextConfig(
        **HYBRID,
        layer_types=["linear_attention", "full_attention"],
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        head_dim=16,
        num_experts=2,
        num_experts_per_tok=1,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
    )
    return Qwen3NextForCausalLM(config)


def mamba2() -> PreTrainedModel:
    """No attention at all."""
    config = Mamba2Config(
        vocab_size=40,
        hidden_size=32,
        num_hidden_layers=2,
        num_heads=4,
        head_dim=16,
        state_size=8,
        n_groups=1,
    )
    return Mamba2ForCausalLM(config)


@pytest.mark.parametrize("make", [bamba, falcon_h1, qwen3_next, mamba2])
def test_layers_with_a_state_agree_with_one_pass_to_the_first_near_tie(make: Any) -> None:
    torch.manual_seed(3)
    acting = make().eval()
    engine = Engine(acting, (EOT,), max_new_tokens=8, temperature=0.0, max_rows=4)
    prompts = [*PROMPTS[:3], PROMPTS[1]]
    num_compared = 0
    for turns in play_turns(engine, prompts=prompts, num_turns=2, tools=waiting(3)):
        for prompt, sample in turns:
            with torch.no_grad():
                logits_TV = acting(torch.tensor([[*prompt, *sample.token_ids]])).logits[0]
            for token, logits_V in zip(
                sample.token_ids, logits_TV[len(prompt) - 1 :], strict=False
            ):
                first, second = logits_V.topk(2).values.tolist()
                if first - second < 1e-4:
                    break
                assert token == logits_V.argmax()
                num_compared += 1
    assert num_compared > 20


def test_an_error_while_a_prompt_is_read_reaches_who_waits() -> None:
    def fail(ids_BT: torch.Tensor) -> None:
        raise RuntimeError("out of memory")

    acting = mamba2().eval()
    with seen_by(acting, fail), pytest.raises(RuntimeError, match="out of memory"):
        play_turns(Engine(acting, (EOT,), max_new_tokens=8))
