"""A thousand random texts through write, read, edit, grade and report: nothing raises or is lost.

Each goes through tools, episode, JSONL and page. Then all are stored as tasks and graded, hundreds
in one run, by the real graders in the sandbox.
"""

import ast
import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from envs.environment import Environment, EpisodeMetadata, Limits
from envs.files import stream_records
from envs.grading.graders import make_grader
from envs.mutation.patches import apply_edits, apply_patch, make_edits, make_patch
from envs.plain_text import representable
from envs.policies import call
from envs.projects.source_files import decode_files
from envs.records import Episode, IoCase, TestReport
from envs.sandbox.encoding import encode_value
from envs.source_text import BOM, decode_source, encode_source, file_bytes, source_lines
from envs.syntax import parse_python
from envs.tasks.store import BuiltTask, Manifest, TaskStore, hash_tree, write_built
from envs.tasks.visible_tests import keep_tests
from tests.envs.any_text import Module, modules
from tests.envs.small_tasks import hidden_task, is_solved, repair_task
from tests.envs.world import CHAT, new_environment, sample_of
from tightrope_cli.pages.episodes import capped, unfold
from tightrope_cli.pages.report import build_report
from train.stages.run_dir import StageDir

NUM_TEXTS = 1000
BATCH = 200
WIDE = Limits(10**6, 10**4, 10**4, 10**4)
MANIFEST = Manifest(source="path", seed=0, licence="unknown")
UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


@pytest.fixture(scope="module")
def drawn() -> list[Module]:
    found: list[Module] = []

    @settings(
        max_examples=NUM_TEXTS,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(modules())
    def draw(module: Module) -> None:
        found.append(module)

    draw()
    assert len(found) >= NUM_TEXTS
    return found


@pytest.mark.parametrize("start", range(0, NUM_TEXTS, BATCH))
def test_random_texts(drawn: list[Module], start: int, tmp_path: Path) -> None:
    modules = drawn[start : start + BATCH]
    episodes = []
    for module in modules:
        check_source(module)
        episodes.append(check_episode(module))
    check_page(episodes, tmp_path / "run")
    batch = {f"m{at}.py": module for at, module in enumerate(modules)}
    check_io(batch, tmp_path / "io")
    check_pytest(batch, tmp_path / "pytest")


def check_source(module: Module) -> None:
    """Check bytes, lines, edits, patches and the cutting of tests."""
    broken, gold, data = {"m.py": module.broken}, {"m.py": module.gold}, encode_source(module.gold)
    assert decode_source(data) == decode_files({"m.py": data})["m.py"] == module.gold
    assert file_bytes("m.py", module.gold) == data
    assert ast.dump(parse_python(module.gold)) == ast.dump(ast.parse(data))
    edits = make_edits(broken, gold)
    assert [(edit.start, edit.end) for edit in edits] == [(module.line, module.line)]
    assert apply_edits(broken, edits) == gold
    assert apply_patch(broken, make_patch(broken, gold)) == gold
    assert keep_tests(module.gold, names={"f"}, whole=True) == module.gold


def check_episode(module: Module) -> Episode:
    """Check that an agent sees the parser's lines, and that all it does is stored and shown."""
    nasty, workspace = module.nasty, {"m.py": module.broken, "notes.txt": module.gold}
    environment = new_environment(limits=WIDE, files=workspace, run_visible=failing(nasty))
    environment.workspace.editable = frozenset(workspace)
    act(environment, call("read_file", path="m.py"), call("outline", path="m.py"))
    shown, outline = (each.text.split("\n")[1:] for each in environment.view().observations)
    lines = source_lines(module.broken)
    assert shown == [f"{number}: {line}" for number, line in enumerate(lines, start=1)]
    for node in ast.parse(encode_source(module.broken)).body:
        if isinstance(node, ast.FunctionDef):
            assert shown[node.lineno - 1] == f"{node.lineno}: def {node.name}():"
            assert f"{node.lineno}-{node.end_lineno} {node.name}" in outline
    act(
        environment,
        call("run_tests", selector=nasty),
        call("search", pattern=nasty),
        call("note", file="m.py", facts=nasty, lines="1-2"),
        call(nasty, **{"a": [[nasty]], nasty: 10**5000, "b": float("nan")}),
    )
    line = {"path": "m.py", "start": module.line, "end": module.line}
    act(environment, call("edit_lines", **line, text="    return ("))
    assert environment.workspace.files == workspace
    act(environment, call("edit_lines", **line, text="    return X"))
    assert environment.workspace.files["m.py"] == module.gold
    act(
        environment,
        call("edit_lines", path="notes.txt", start=1, end=0, text=nasty),
        call("edit_lines", path="m.py", start=1, end=0, text=f"# {nasty}"),
    )
    assert environment.workspace.files["notes.txt"].endswith(module.gold.removeprefix(BOM))
    encode_source(environment.workspace.files["m.py"])
    act(environment, call("compact", summary=nasty))
    act(environment, call("submit"))
    return check_record(environment, nasty)


def check_record(environment: Environment, nasty: str) -> Episode:
    """Check that the episode comes back from its line and can be shown."""
    episode = environment.record(EpisodeMetadata("g", 0, 0, "sft", 0, 0.0, False), outcome=None)
    assert Episode.model_validate_json(episode.model_dump_json().encode()) == episode
    (noted,) = (event for event in episode.events if event.kind == "noted")
    assert noted.facts == representable(nasty)
    turns = unfold(episode, decode=CHAT.decode).turns
    assert not UNSEEN.search("".join(capped(turn.text) for turn in turns) + capped(noted.facts))
    return episode


def check_page(episodes: list[Episode], folder: Path) -> None:
    """Check that the episodes come back from their file and that the page can be encoded."""
    stage = StageDir(folder / "evaluate", "evaluate")
    path = stage.write_episodes("sft", episodes)
    assert list(stream_records(path, Episode)) == episodes
    page = build_report(folder, folder / "page.html", decode=CHAT.decode).read_bytes()
    assert not UNSEEN.search(page.decode("utf-8"))


def failing(nasty: str):
    def run_visible(files: dict[str, str], selector: str) -> TestReport:
        return TestReport(num_passed=0, failures=((f"t[{nasty}]", f"raised {nasty}{selector}"),))

    return run_visible


def act(environment: Environment, *calls) -> None:
    before = len(environment.events)
    environment.step(sample_of(calls))
    assert len(environment.events) > before + (calls[0].name != "submit")


def check_io(batch: dict[str, Module], folder: Path) -> None:
    """Check that calls in the sandbox give what Python reads, and say what they raise."""
    cases = tuple(
        IoCase(id=path, function=f"{path[:-3]}:f", args=(), expected=encode_value(module.value))
        for path, module in batch.items()
    )
    raising = tuple(
        IoCase(id=f"g {path}", function=f"{path[:-3]}:g", args=(), expected="None")
        for path in batch
    )
    names = tuple(batch)
    files = {path: module.broken for path, module in batch.items()}
    public = repair_task("io", visible_cases=raising)
    public = public.model_copy(update={"editable": names, "workspace_sha": hash_tree(files)})
    hidden = hidden_task("io", names, (), cases=cases, limit_s=60.0)
    store = stored(BuiltTask(public, hidden, files), folder)
    task = store.public["io"]
    workspace = store.workspace(task)
    assert workspace == files
    gold = workspace | {path: module.gold for path, module in batch.items()}
    with make_grader(store) as grader:
        assert grader.grade(store.hidden["io"], workspace).fail_to_pass_rate == 0.0
        assert is_solved(grader.grade(store.hidden["io"], gold))
        report = grader.run_visible(task, gold, "")
    assert report.num_passed == 0
    for test_id, message in report.failures:
        # As JSON has it: two halves of a character that meet are one.
        nasty = representable(json.loads(json.dumps(batch[test_id[2:]].nasty)))
        told = f": {nasty}" if nasty else ""
        assert " ".join(f"g() raised ValueError{told}".split()) in message
    report.model_dump_json().encode()


def check_pytest(batch: dict[str, Module], folder: Path) -> None:
    """Check that pytest in the sandbox runs the same files, as sources and as test files."""
    tests, ids, names = {}, [], tuple(batch)
    for path, module in batch.items():
        name = path.removesuffix(".py")
        test = f"def test_f():\n    import {name}\n    assert {name}.f() == X == {module.value!a}"
        end = source_lines(module.gold, keepends=True)[-2]
        end = end[len(end.rstrip("\r\n")) :]
        tests[f"test_{path}"] = module.gold.rstrip("\r\n") + end + test.replace("\n", end)
        ids.append(f"test_{path}::test_f")
    files = {path: module.broken for path, module in batch.items()}
    gold = files | {path: module.gold for path, module in batch.items()}
    public = repair_task("pytest").model_copy(
        update={"editable": names, "workspace_sha": hash_tree(files)}
    )
    hidden = hidden_task("pytest", tuple(ids), (), tests_sha=hash_tree(gold | tests), limit_s=120.0)
    store = stored(BuiltTask(public, hidden, files, gold | tests), folder)
    assert store.tests(store.hidden["pytest"]) == gold | tests
    with make_grader(store) as grader:
        assert is_solved(grader.grade(store.hidden["pytest"], gold))
        assert grader.grade(store.hidden["pytest"], files).fail_to_pass_rate == 0.0


def stored(task: BuiltTask, folder: Path) -> TaskStore:
    write_built(folder, tasks=[task], manifest=MANIFEST)
    return TaskStore.open(folder)
