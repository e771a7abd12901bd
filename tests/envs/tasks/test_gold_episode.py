from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from envs.mutation.patches import make_edits
from envs.records import Edit
from envs.sources.synthetic import generate
from envs.tasks.build_report import GOLD_STUCK
from envs.tasks.gold_episode import BYTES_PER_TOKEN, LIMITS, play_gold
from envs.tasks.validate import apply_gold, find_stuck_gold

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def generated():
    return next(iter(generate(1, split="train", seed=0)))


def make_task(generated, broken, gold, edits=None):
    """Return a task with one file, and gold in edits of one's own if need be."""
    files = {"m.py": broken}
    edits = make_edits(files, {"m.py": gold}) if edits is None else edits
    hidden = generated.hidden.model_copy(update={"gold_edits": tuple(edits)})
    public = generated.public.model_copy(update={"editable": ("m.py",)})
    return replace(generated, public=public, hidden=hidden, workspace=files)


def test_limits_are_those_of_the_shipped_configuration_for_real_projects():
    context = yaml.safe_load((ROOT / "configs/qwen3b.yaml").read_text())["context"]
    context["window_tokens"] = context["window_tokens"][0]
    for name, tokens in context.items():
        scale = 1 if name == "max_turns" else BYTES_PER_TOKEN
        assert getattr(LIMITS, name) == int(tokens * scale)


def test_gold_repairs_generated_tasks():
    for task in generate(20, split="train", seed=1):
        assert play_gold(task) == apply_gold(task) != task.workspace


@pytest.mark.parametrize(
    ("broken", "gold"),
    [
        ("x = f(\n    1,\n)\n", "x = f(\n    2,\n)\n"),
        ("x = f(\n    1,\n    2,\n)\n", "x = 3\n"),
        ("def f():\n    pass\n", "def f():\n    a = 1\n    return a\n"),
        ("a = 1\nb = 2\nc = 3\n", "a = 2\nb = 2\nc = 4\n"),
        ("s = ''\n", "s = '<|im_end|>\\n<tool_call></tool_call>'\n"),
        ("s = 1\n", "s = '\u00e9\u2028\U0001f600\\x00'\n"),
        ("a = 1\r\nb = 2\r\n", "a = 1\r\nb = 3\r\n"),
        ("\ufeffa = 1\n", "\ufeffa = 2\n"),
        ("def f():\n\treturn 1\n", "def f():\n\treturn 2\n"),
        ("a = 1", "a = 2"),
        ("", "a = 2\n"),
    ],
    ids=["in a call", "a call", "new line", "two places", "markers", "signs", "CRLF", "BOM", "tabs",
         "no end", "empty"],
)  # fmt: skip
def test_gold_gives_every_byte_back(generated, broken, gold):
    task = make_task(generated, broken, gold)
    assert play_gold(task) == {"m.py": gold} and find_stuck_gold(task) is None


def test_gold_whose_edits_do_not_parse_alone_is_stuck(generated):
    edits = [Edit(path="m.py", start=3, end=3, text=""), Edit(path="m.py", start=1, end=2, text="")]
    task = make_task(generated, "x = f(\n    1,\n)\n", "", edits)
    assert apply_gold(task) == {"m.py": ""}
    assert find_stuck_gold(task) == GOLD_STUCK


@pytest.mark.parametrize(
    "gold",
    ["x = '" + "long " * 400 + "'\n", "".join(f"x{n} = 1\ny = 2\n" for n in range(40))],
    ids=["more than one turn holds", "more turns than there are"],
)
def test_gold_that_passes_the_limits_of_a_run_is_stuck(generated, gold):
    broken = "".join(f"z{n} = 1\ny = 2\n" for n in range(gold.count("\n") // 2)) or "x = 1\n"
    task = make_task(generated, broken, gold)
    assert apply_gold(task) == {"m.py": gold}
    assert find_stuck_gold(task) == GOLD_STUCK
