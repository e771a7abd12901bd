"""`tightrope cost`: its page shows what it prints, JSON says the same, errors help."""

import json
import re
import shlex
from pathlib import Path

import pytest

from envs.errors import UserError
from tests.scripts.made_run import make_run
from tightrope_cli.costs.model import read_lengths
from tightrope_cli.main import run_verb

ROOT = Path(__file__).resolve().parents[3]
QWEN_3B = "tests/train/data/qwen2.5-coder-3b"
LARGE = "cost model --layers 80 --kv-heads 8 --head-dim 128"
PAGE = (ROOT / "docs" / "costs.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"```console\n\$ tightrope (.*?)\n(.*?)```", PAGE, re.DOTALL)


def run(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert run_verb(shlex.split(line.replace("\\\n", " "))) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(("line", "output"), SHOWN, ids=lambda text: text[:60])
def test_the_page_shows_what_its_commands_print(
    line: str, output: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    found = [text.rstrip() for text in run(line, capsys).rstrip().split("\n")]
    shown = [text.rstrip() for text in output.rstrip().split("\n")]
    if "..." in shown:  # rows of a long table are left out
        cut = shown.index("...")
        assert found[:cut] == shown[:cut]
        assert found[len(found) - len(shown) + cut + 1 :] == shown[cut + 1 :]
    else:
        assert found == shown


def test_the_page_shows_each_verb() -> None:
    assert {line.split()[1] for line, _ in SHOWN} == {"model", "session", "training"}


def test_a_record_holds_the_published_figures(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(run(f"{LARGE} --json", capsys))
    assert found["kv_bytes_per_token"] == 327_680 and found["parameters"] is None
    kept = [row["kv_bytes"] for row in found["lengths"]]
    assert kept == [327_680 * tokens for tokens in (4096, 32_768, 131_072, 10**6)]


def test_a_session_in_a_record_has_turns_money_and_tasks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    prices = "--prices 2,0.2,10 --card H100 --hour-price 3"
    found = json.loads(run(f"cost session {QWEN_3B} {prices} --json", capsys))
    last = found["turns"][-1]
    assert (len(found["turns"]), last["billed"]) == (30, 751_500)
    assert last["kv_bytes"] == 36_864 * 46_800
    for way in ("without a cache", "with a cache"):
        assert last[way] == pytest.approx(found["money"][way])
        serving = found["serving"][way]
        assert serving["money"] == pytest.approx(3 / serving["tasks_per_hour"])


def test_memory_of_a_config_is_that_of_its_dry_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    line = f"cost training --config configs/qwen3b.yaml --model.base ./{QWEN_3B}"
    found = json.loads(run(f"{line} --json", capsys))
    assert [*found] == ["1 GPU", "8 GPUs, ZeRO-2", "8 GPUs, ZeRO-3"]
    assert round(found["1 GPU"]["peak"] / 1e9, 2) == 35.44
    here = json.loads(run(f"{line} --stage sft --cpu --json", capsys))
    assert here["1 process, CPU"]["reference"] == 0


def test_a_run_is_shown_and_what_its_files_do_not_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(tmp_path, num_tasks=2, num_steps=1)
    (folder / "evaluate/seconds.json").write_text('{"gold": 36}')
    text = run(f"cost run {folder} --hour-price 2 --prices 1,0.1,5", capsys)
    gold = next(row for row in text.split("\n") if "evaluate gold" in row)
    assert "0.010" in gold and "400" in gold and "tokens" in gold
    assert "not in the files" in text
    rows = [json.loads(row) for row in run(f"cost run {folder} --json", capsys).strip().split("\n")]
    assert {row["name"]: row["episodes_per_hour"] for row in rows}["evaluate gold"] == 400


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("cost model", "no model is named"),
        ("cost model nowhere", "no model's config is there"),
        ("cost model nowhere --layers 2", "given twice"),
        ("cost model --layers 2 --kv-heads 2", "add --head-dim"),
        (f"{LARGE} --heads 64", "add --width --mlp --vocab"),
        (f"{LARGE} --heads 9 --width 8 --mlp 8 --vocab 8", "no multiple of --kv-heads"),
        ("cost model --layers 0 --kv-heads 1 --head-dim 1", "--layers is too small"),
        (f"{LARGE} --lengths 4k", "numbers of tokens"),
        ("cost session --card H100", "needs a model with its parameters"),
        (f"cost session {LARGE[11:]} --card H100", "needs a model with its parameters"),
        ("cost session --prices 1", "three or four numbers"),
        ("cost run nowhere", "no episodes are there"),
    ],
)
def test_mistakes_are_named_with_a_remedy(line: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        run_verb(shlex.split(line))


def test_lengths_have_units() -> None:
    assert read_lengths("512, 4K,1M") == [512, 4096, 10**6]
    for wrong in ("", "0", "-1", "4KK", "1.5K", "K", "\u0663", "4K,", "9999999999"):
        with pytest.raises(UserError):
            read_lengths(wrong)
