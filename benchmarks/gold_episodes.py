"""Plays scripted gold over task sets as a run would: its limits, its tools, the production grader.

    python benchmarks/gold_episodes.py SET SET ... --out benchmarks/results/gold_episodes.md
    python benchmarks/gold_episodes.py SET --config configs/smollm2.yaml --tokenizer FOLDER

Limits and prompt are those of --config (configs/qwen3b.yaml); a window is drawn for each task as in
training. Without --tokenizer one of 1,024 words is trained on the set, in which everything is
longer than in a real model's. A set is what `tightrope tasks build` wrote. Says how many tasks gold
solved, how the other episodes ended, and how many bugs the set's build had rejected because gold
could not repair them with the tools; the exit code is 1 if gold solved fewer than all.
About 0.3 s for a task on two idle cores, more where suites are slow.
"""

import argparse
import sys
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from envs.tasks.build_report import GOLD_STUCK
from envs.tasks.store import TaskStore
from rewards.outcome import is_solved
from train.config.load import default_cache, load_settings
from train.models.chat_templates import set_run_template
from train.models.model import load_tokenizer
from train.models.vocabulary import new_tokenizer
from train.rollouts.runner import open_runner


def play(folder: Path, *, config: Path, tokenizer_folder: Path | None, most: int) -> list[object]:
    """Return the row of one set."""
    now, start = datetime.now().astimezone(), time.monotonic()
    settings = load_settings(
        config, ["--tasks.dir", str(folder), "--run.cache", str(default_cache())]
    )
    if tokenizer_folder is None:
        own = {"base": "tiny", "chat_template": "tiny"}
        settings = settings.model_copy(update={"model": settings.model.model_copy(update=own)})
        tokenizer = new_tokenizer(settings, now=now)
    else:
        tokenizer = load_tokenizer(str(tokenizer_folder))
        set_run_template(tokenizer, settings, now=now)
    with open_runner(settings, tokenizer=tokenizer) as runner:
        ids = list(runner.store.public)[:most]
        requests = runner.draw_requests(ids, stage="gold")
        episodes = runner.play_all(
            requests,
            lambda request: runner.make_script(request.task_id, "gold"),
            policy="gold",
            concurrency=4,
        )
    failed = [episode for episode in episodes if not is_solved(episode)]
    for episode in failed:
        print(f"{folder} {episode.task_id}: {episode.stop_reason} {episode.outcome}")
    manifest = TaskStore.open(folder).manifest
    assert manifest is not None
    tried = sum(found["tried"] for found in manifest.yields.values()) or len(ids)
    ends = Counter(str(episode.stop_reason) for episode in failed)
    stuck = manifest.rejects.get(GOLD_STUCK, 0)
    solved = f"{len(ids) - len(failed)} of {len(ids)}"
    ended = ", ".join(f"{count} {name}" for name, count in ends.items()) or "-"
    minutes = f"{(time.monotonic() - start) / 60:.1f}"
    return ["/".join(folder.parts[-2:]), solved, ended, f"{stuck} of {tried}", minutes]


def main() -> int:
    """Play all sets, print and write the table; 0 if gold solved every task."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sets", type=Path, nargs="+", metavar="SET")
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "qwen3b.yaml")
    parser.add_argument("--tokenizer", type=Path, help="folder with a model's tokenizer")
    parser.add_argument("--most", type=int, default=1_000_000, help="tasks of a set, at most")
    parser.add_argument("--out", type=Path, help="where to write the table as Markdown")
    asked = parser.parse_args()
    heads = ["set", "gold solved", "others ended", "rejected as stuck", "minutes"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    print("\n".join(lines))
    is_whole = True
    for folder in asked.sets:
        row = play(folder, config=asked.config, tokenizer_folder=asked.tokenizer, most=asked.most)
        solved, total = str(row[1]).split(" of ")
        is_whole &= solved == total
        lines.append(f"| {' | '.join(map(str, row))} |")
        print(lines[-1], flush=True)
    if asked.out:
        title = f"# Gold as an episode, in the limits of configs/{asked.config.name}"
        asked.out.write_text("\n".join([title, "", *lines, ""]), "utf-8")
    return 0 if is_whole else 1


if __name__ == "__main__":
    sys.exit(main())
