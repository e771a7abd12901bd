"""What a teacher solves is kept, once, on train tasks; a kill loses nothing and doubles nothing."""

import json
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from envs.errors import InfrastructureError, UserError
from envs.habits.options import ScriptOptions
from envs.records import Episode, Policy
from envs.rendering import ChatFormat
from envs.sources.build import build
from envs.workers.workbench import Workbench
from rewards.outcome import is_solved
from tests.envs.context.test_event_log import WIDE as WIDE_LIMITS
from tests.envs.readers.long_task import LONG
from tests.envs.world import CHAT, Believing, InProcess
from tests.envs.world import play as play_script
from tests.train.rollouts.chat_server import ChatServer, Messages, serve
from tests.train.rollouts.test_runner import SETTINGS, Flaky, runner_with
from tests.train.rollouts.test_windows import TwoTasks
from tests.train.small_run import CONFIG, add_policy, add_tokenizer, arguments, settings_in
from tightrope_cli import demos
from train.rollouts.endpoint import EndpointSampler
from train.rollouts.rejection import ANSWERS, PLAYED, AnswerFile, Sampled, sample_demonstrations
from train.rollouts.runner import RolloutRunner, open_runner
from train.servers.chat import Endpoint
from train.servers.transport import Patience
from train.stages.run_dir import StageDir

WIDE = SETTINGS.context.model_copy(update={"window_tokens": (4000, 4000), "max_new_tokens": 200})
TOLD = {"prompt_tokens": 100, "completion_tokens": 7}
NUM_SAMPLES = 10
CONCURRENCY = 2


def new_runner(*, wanted: int = 99) -> RolloutRunner:
    runner = runner_with(Flaky())
    sft = SETTINGS.sft.model_copy(update={"num_demonstrations": wanted})
    runner.settings = SETTINGS.model_copy(update={"context": WIDE, "sft": sft})
    return runner


def in_words(episode: Episode, chat: ChatFormat = CHAT) -> list[str]:
    """Return the turns of an episode as a teacher would write them."""
    return [chat.decode(chat.call_ids(list(turn.calls))[:-1]) for turn in episode.turns]


CAREFUL = in_words(
    play_script("careful", options=ScriptOptions(rewrite="none"), limits=WIDE_LIMITS)
)


def write_turn(turns: list[str], messages: Messages, *, word: str = "") -> dict[str, Any]:
    place = sum(message["role"] == "assistant" for message in messages)
    return {"content": word + turns[min(place, len(turns) - 1)]}


@pytest.fixture
def server() -> Iterator[ChatServer]:
    """A teacher that repairs the task, each time in other words."""
    found = ChatServer(lambda messages: {}, usage=TOLD)
    found.answer = lambda messages: write_turn(
        CAREFUL, messages, word=f"try {found.asked['seed']}\n"
    )
    with serve(found):
        yield found


def sample(
    server: ChatServer, folder: Path, *, wanted: int = 99, num_samples: int = NUM_SAMPLES
) -> tuple[Sampled, Endpoint]:
    folder.mkdir(exist_ok=True)
    runner, answers = new_runner(wanted=wanted), AnswerFile(folder)
    endpoint = Endpoint(server.url, "m/gold", patience=Patience(num_tries=2, first_pause_s=0.0))
    endpoint.usage.add(answers.usage)
    sampler = EndpointSampler(
        endpoint,
        runner.chat,
        max_new_tokens=200,
        max_rows=CONCURRENCY,
        kept=answers.kept,
        on_answer=answers.add,
    )
    sampled = sample_demonstrations(
        runner,
        sampler,
        folder,
        name="teacher",
        num_samples=num_samples,
        concurrency=CONCURRENCY,
    )
    return sampled, endpoint


def test_what_solves_is_kept_once_and_the_rest_is_counted(
    server: ChatServer, tmp_path: Path
) -> None:
    gold = in_words(play_script("gold"))

    def answer(messages: Messages) -> dict[str, Any]:
        kind = server.asked["seed"] % 4
        if kind == 0:
            return write_turn(["no idea"], messages)
        if kind == 1:
            return write_turn(gold, messages, word=f"{server.asked['seed']} ")
        return write_turn(CAREFUL, messages, word="always so ")

    server.answer = answer
    sampled, _ = sample(server, tmp_path, num_samples=16)
    seeds = Counter(seed % 4 for seed in {asked["seed"] for asked in server.seen})
    assert min(seeds[kind] for kind in range(4)) >= 1
    assert len(sampled.episodes) == 1 and is_solved(sampled.episodes[0])
    assert sampled.episodes[0].policy == "teacher"
    assert sampled.faults == {
        "unsolved": seeds[0], "unseen": seeds[1], "alike": seeds[2] + seeds[3] - 1
    }  # fmt: skip
    assert sampled.num_played == 16 and sampled.num_broken == 0


def test_no_more_is_asked_for_than_is_wanted(server: ChatServer, tmp_path: Path) -> None:
    sampled, endpoint = sample(server, tmp_path, wanted=3)
    assert len(sampled.episodes) == 3
    assert len({asked["seed"] for asked in server.seen}) <= 3 + CONCURRENCY - 1
    assert endpoint.usage.prompt_tokens == 100 * len(server.seen)


def identify(server: ChatServer) -> Counter[str]:
    return Counter(json.dumps([asked["seed"], asked["messages"]]) for asked in server.seen)


@pytest.mark.parametrize("num_before", [1, 23])
def test_a_kill_loses_nothing_and_doubles_nothing(
    server: ChatServer, tmp_path: Path, num_before: int
) -> None:
    whole, bill = sample(server, tmp_path / "whole")
    asked_whole, answer = identify(server), server.answer
    assert len(whole.episodes) == NUM_SAMPLES and set(asked_whole.values()) == {1}
    server.seen.clear()
    reached, released = Event(), Event()

    def hang(messages: Messages) -> dict[str, Any]:
        if len(server.seen) > num_before:
            reached.set()
            released.wait()
        return answer(messages)

    server.answer = hang
    folder = tmp_path / "killed"
    killed = multiprocessing.get_context("fork").Process(target=sample, args=(server, folder))
    killed.start()
    assert reached.wait(60)
    killed.kill()
    killed.join()
    with (folder / PLAYED).open("ab") as file:  # as if it had been writing, too
        file.write(b'{"place": 3, "fault"')
    server.answer = answer
    released.set()
    time.sleep(0.1)
    sampled, endpoint = sample(server, folder)
    assert sampled.episodes == whole.episodes and sampled.num_played == NUM_SAMPLES
    assert identify(server).keys() == asked_whole.keys()
    assert identify(server).total() - asked_whole.total() <= CONCURRENCY, "those under way"
    assert endpoint.usage == bill.usage, "what was answered is billed once"
    assert len((folder / ANSWERS).read_text().split("\n")) == asked_whole.total() + 1


def test_a_server_that_fails_for_good_ends_it_and_nothing_counts_as_played(
    server: ChatServer, tmp_path: Path
) -> None:
    server.statuses = [200] * 3 + [503] * 10_000
    with pytest.raises(InfrastructureError, match=r"8 episodes in a row broke.* HTTP 503"):
        sample(server, tmp_path)
    assert not (tmp_path / PLAYED).exists()
    server.statuses.clear()
    sampled, endpoint = sample(server, tmp_path)
    assert len(sampled.episodes) == NUM_SAMPLES
    assert endpoint.usage.num_requests == NUM_SAMPLES * len(CAREFUL)


class Scripted:
    """Acts by scripts in the place of a model; the named task in every second episode alone."""

    max_rows, in_waves = CONCURRENCY, False

    def __init__(self, runner: RolloutRunner, *, unsure: str) -> None:
        self.runner, self.unsure = runner, unsure

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...

    def policy(self, *, seed: int, group: str) -> Policy:
        _, step, place = group.split("/")
        task = self.runner.store.split("train")[int(place)]
        fails = task.id == self.unsure and int(step) % 2
        options = ScriptOptions(rewrite="compact", eager=True)
        return self.runner.make_script(task.id, "noop" if fails else "careful", options=options)

    def join(self, num_workers: int) -> None: ...

    def leave(self) -> None: ...

    def forget(self, seed: int) -> None: ...


@pytest.mark.parametrize(("share", "tight"), [(0.5, 4), (0.25, 2), (0.0, 0), (1.0, 4)])
def test_windows_that_need_a_rewrite_are_among_them_as_often_as_asked(
    tmp_path: Path, share: float, tight: int
) -> None:
    """Though they are solved less often; of two tasks one has such windows, so half is the most."""
    settings = settings_in(
        tmp_path,
        "--context.window_tokens={of_least_peak: [0.8, 2], at_most: 2048}",
        "--context.max_turns=40",
        "--context.max_sampled_tokens=2000",
        "--sft.num_demonstrations=8",
        f"--sft.needs_rewrite_share={share}",
        "--sft.wasteful_share=0",
    )
    store = TwoTasks()
    bench = InProcess(Workbench(store, Believing()))  # type: ignore[arg-type]
    runner = RolloutRunner(store, CHAT, settings, bench)  # type: ignore[arg-type]
    options: Any = {"name": "scripted", "concurrency": CONCURRENCY}
    sampler = Scripted(runner, unsure=LONG.id)
    sampled = sample_demonstrations(runner, sampler, tmp_path, num_samples=12, **options)
    assert sampled.num_rewrite_wanted == tight
    assert len(sampled.episodes) == 8
    assert sum(episode.needs_rewrite for episode in sampled.episodes) == tight
    again = sample_demonstrations(runner, sampler, tmp_path, num_samples=12, **options)
    assert again == sampled, "nothing is played that is not wanted"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sampled")
    build("synthetic", out_dir=folder / "tasks", counts={"train": 3, "dev": 1, "test": 1}, seed=0)
    settings = settings_in(folder, "--run.name=first")
    add_tokenizer(settings)
    add_policy(settings)
    return folder


def line_of(folder: Path, *more: str, name: str = "again") -> list[str]:
    """Return arguments of a run in which a teacher has room for a repair."""
    wide = ("--context.window_tokens=[2000, 2000]", "--context.max_new_tokens=64")
    return ["--config", str(CONFIG), *arguments(folder), f"--run.name={name}", *wide, *more]


def teach(folder: Path) -> Callable[[Messages], dict[str, Any]]:
    """Return the answers of a teacher that solves the tasks of a set."""
    turns: dict[str, list[str]] = {}
    with open_runner(settings_in(folder, "--run.name=first", *line_of(folder)[-2:])) as runner:
        for task in runner.store.split("train"):
            options = ScriptOptions(rewrite="none")
            episode = runner.play_ungraded(task.id, "careful", options=options)
            words = [
                runner.chat.decode(runner.chat.call_ids(list(t.calls))[:-1]) for t in episode.turns
            ]
            turns[task.statement] = words

    def answer(messages: Messages) -> dict[str, Any]:
        (found,) = [words for said, words in turns.items() if said in messages[1]["content"]]
        return write_turn(found, messages)

    return answer


def test_demonstrations_of_a_teacher_take_the_place_of_those_of_scripts(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TIGHTROPE_ENDPOINT_KEY", "secret")
    with serve(ChatServer(teach(made), usage=TOLD, key="secret")) as server:
        line = line_of(made, "--teacher", server.url, "--samples=2")
        assert demos.main(line) == 0
        stage = StageDir(made / "runs" / "again" / "demos", "demos")
        episodes, facts = stage.read_episodes("demonstrations"), stage.read_json("done")
        num_asked = len(server.seen)
        assert demos.main([*line, "--resume"]) == 0 and len(server.seen) == num_asked
        with pytest.raises(UserError, match=r"another origin .*samples: 2 -> 3"):
            demos.main([*line_of(made, "--teacher", server.url, "--samples=3"), "--resume"])
        with pytest.raises(UserError, match="another origin"):
            demos.main([*line_of(made), "--resume"])
    assert len(episodes) == 3 == len({episode.task_id for episode in episodes})
    assert all(map(is_solved, episodes)) and {each.policy for each in episodes} == {"teacher"}
    assert facts["usage"]["prompt_tokens"] == 100 * num_asked and facts["num_kept"] == 3
    assert "outline(path)" in server.seen[0]["messages"][0]["content"], "it is told of the tools"
    (row,) = json.loads((stage.path / "habits.json").read_text())
    assert (row["habit"], row["num_episodes"], row["segments"]) == ("teacher", 3, 1.0)
    said = capsys.readouterr()
    assert "demonstrations by habit" in said.err
    assert f"{100 * num_asked:,} prompt and {7 * num_asked:,} completion tokens" in said.err
    files = [path for path in stage.path.rglob("*") if path.is_file()]
    assert not any(b"secret" in path.read_bytes() for path in files)
    assert not {PLAYED, ANSWERS} & {path.name for path in files}, "they are in the result"


def test_a_resume_with_other_weights_tasks_or_windows_is_refused(made: Path) -> None:
    silent = ChatServer(lambda messages: {"content": "no idea"}, usage=TOLD)
    with serve(silent) as server:
        line = line_of(made, "--teacher", server.url, "--samples=1", name="other")
        with pytest.raises(UserError, match="nothing was solved"):
            demos.main(line)
        config = made / "runs" / "other" / "demos" / "config.yaml"
        before, num_asked = config.read_bytes(), len(server.seen)
        for change, told in (
            ("--tasks.difficulty={sites: [1, 1]}", "tasks.difficulty.sites: absent"),
            ("--sft.needs_rewrite_share=0.4", "needs_rewrite_share: 0.35 -> 0.4"),
            ("--model.chat_template=null", "model.chat_template: tiny -> None"),
        ):
            with pytest.raises(UserError, match=f"another origin .*{told}"):
                demos.main([*line, "--resume", change])
        server.models = ["m/silver"]
        with pytest.raises(UserError, match=r"another origin .*acting: m/gold -> m/silver"):
            demos.main([*line, "--resume"])
        assert config.read_bytes() == before and len(server.seen) == num_asked
        server.models = ["m/gold"]
        with pytest.raises(UserError, match="nothing was solved"):
            demos.main([*line, "--resume"])
        assert len(server.seen) == num_asked, "what was played is not played again"


def test_a_policy_of_ones_own_plays_train_tasks_with_its_own_tokenizer(made: Path) -> None:
    run = made / "runs" / "first"
    adapter = run / "grpo" / "adapter"
    config = adapter / "adapter_config.json"
    said = json.loads(config.read_text()) | {"base_model_name_or_path": str(run / "sft" / "model")}
    config.write_text(json.dumps(said))
    for name, policy in (("adapter", adapter), ("model", run / "sft" / "model")):
        line = line_of(made, "--policy", str(policy), "--samples=2", name=name)
        with pytest.raises(UserError, match=r"nothing was solved.*6 episodes on train tasks"):
            demos.main([*line, "--context.max_turns=2"])
        stage = made / "runs" / name / "demos"
        rows = [json.loads(row) for row in (stage / PLAYED).read_text().split("\n") if row]
        assert {row["fault"] for row in rows} == {"unsolved"} and len(rows) == 6
        of_train = {task.id for task in open_tasks(made)}
        assert {row["task"] for row in rows} == of_train
        ours, theirs = (
            (place / "tokenizer" / "tokenizer.json").read_bytes()
            for place in (stage, run / "demos")
        )
        assert ours == theirs
        weights = next(policy.glob("*.safetensors"))
        save_file({name: t + 1 for name, t in load_file(weights).items()}, weights)
        with pytest.raises(UserError, match=r"another origin .*acting: "):
            demos.main([*line, "--context.max_turns=2", "--resume"])


def open_tasks(folder: Path) -> Any:
    from envs.tasks.store import TaskStore

    return TaskStore.open(folder / "tasks").split("train")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--teacher=http://x/v1#m", "--policy=./a"), "contradict each other"),
        (("--per-minute=3",), "is for requests to a --teacher"),
        (("--teacher=http://127.0.0.1:9/v1#m",), "cannot be reached"),
        (("--policy=./nowhere",), "is not there"),
        (("--teacher=http://x/v1#m", "--samples=0"), "too small"),
    ],
    ids=["both", "pace", "address", "folder", "number"],
)
def test_what_cannot_be_sampled_is_refused(made: Path, more: tuple[str, ...], told: str) -> None:
    with pytest.raises(UserError, match=told):
        demos.main(line_of(made, *more, name="refused"))
    assert not (made / "runs" / "refused").exists()
