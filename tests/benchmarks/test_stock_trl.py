"""Behind stock TRL's interface stands our own episode, and TRL reads the calls of our templates."""

from pathlib import Path

from transformers.utils import get_json_schema
from trl.chat_template_utils import parse_response, qwen3_template

from benchmarks.stock_trl import StockEpisode, to_inputs
from envs.policies import call
from envs.tools import list_tools
from envs.workers.workbench import Workbench
from tests.envs.world import CHAT, HIDDEN, TASK, TOKENIZER, Believing, OneTask
from tests.train.small_run import CONFIG
from train.config.load import load_settings
from train.models.model import load_tokenizer
from train.models.tiny_tokenizer import save_tiny_tokenizer
from train.rollouts.runner import EpisodeRequest, RolloutRunner

STRATEGY = ["--context.strategy=full_history", "--sft.needs_rewrite_share=0"]
BENCH = Workbench(OneTask(), Believing())
RUNNER = RolloutRunner(OneTask(), CHAT, load_settings(CONFIG, STRATEGY), BENCH)  # type: ignore


def test_an_episode_is_played_and_graded_by_our_rules() -> None:
    episode = StockEpisode(RUNNER, BENCH)
    for expected in (1.0, 0.0):
        episode.reset(task_id=TASK.id, window_tokens=800, prompt="not ours to read")
        if expected:
            for place, edit in enumerate(HIDDEN.gold_edits, start=1):
                said = episode.edit_lines(path=edit.path, start=3, end=3, text=edit.text)
                assert said.startswith(f"[o{place} ") and "edited" in said
        assert episode.read_file(name="no such argument").partition("\n")[2].startswith("error:")
        assert episode.get_reward() == 0.0, "nothing is submitted"
        assert episode.submit() == "the episode has ended"
        assert episode.get_reward() == expected
        assert episode.list_files() == "the episode has ended"


def test_trl_shows_our_tools_and_reads_their_calls(tmp_path: Path) -> None:
    episode = StockEpisode(RUNNER, BENCH)
    for name in list_tools("full_history"):
        schema = get_json_schema(getattr(episode, name))["function"]
        assert schema["name"] == name and schema["description"]
    save_tiny_tokenizer(TOKENIZER, tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    tokenizer.response_template = qwen3_template
    written = call("edit_lines", path="m0.py", start=3, end=3, text="    return 1\n")
    prefix = list(CHAT.prefix(system="s", user="u"))
    read = parse_response(tokenizer, list(CHAT.call_ids([written])), prefix=prefix)
    (found,) = read["tool_calls"]
    assert (found["function"]["name"], found["function"]["arguments"]) == (
        written.name,
        written.arguments,
    )


def test_prompts_are_those_of_our_own_episodes(tmp_path: Path) -> None:
    save_tiny_tokenizer(TOKENIZER, tmp_path)
    (row,) = to_inputs(RUNNER, [EpisodeRequest(TASK.id, "g", 0, 500, 1)])
    ids = load_tokenizer(tmp_path).apply_chat_template(
        row["prompt"], add_generation_prompt=True, tokenize=True, return_dict=False
    )
    ours = RUNNER.make_environment(TASK, window_tokens=500).view().prompt_ids
    assert tuple(ids) == ours
