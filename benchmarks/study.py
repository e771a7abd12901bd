"""The study: a policy that manages its context itself, against every other way to manage it.

    python benchmarks/study.py --seeds 0 1 2
    python benchmarks/study.py --seeds 0 1 2 3 4      # what is claimed
    python benchmarks/study.py --smoke                # every kind of cell in miniature

Each arm makes demonstrations, a warm start and GRPO under its own strategy: `learned`,
`full_history`, `mask`, `summarize`, `hybrid` in the windows W of configs/tiny.yaml, and
`full_history` in four times W. All have the same tasks, as many demonstrations, epochs and steps of
GRPO (`SHARED`), and, at W, the same windows on the same held-out tasks, which each plays once; its
best adapter was chosen on dev tasks as it trained. On seed 0 also: the warm start trained further
on what GRPO's own rollouts solved (rejection sampling), the forms of the reward, and the price
meter. Of each seed `learned` is evaluated without each of five behaviours (`context.without`).

Forms of the reward are compared at matched pressure: each is trained with several weights, and of
each that one is played on test tasks whose tokens per solved on dev tasks are nearest to those of
the default form.

It takes hours, in slices: `--minutes` ends one, a kill does no harm, finished stages are kept and
the same command goes on. The report is written of what there is, and names what is missing. The
exit code is 0 if all cells are there, whatever they show; which goals are met stands in the report.
"""

import argparse
import math
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.ablation import BEHAVIOURS
from benchmarks.cells import Cell, Place, find_missing, make_cells
from benchmarks.study_report import (
    ARMS_AT_W,
    FORMS,
    WIDE,
    Study,
    find_matched,
    name_reference,
    write_report,
)
from envs.files import to_json
from envs.records import Episode
from rewards.outcome import is_solved
from train.config.settings import OfLeastPeak, Settings
from train.models.model import run_tokenizer
from train.stages.exit_codes import run_main
from train.stages.open_stage import open_stage
from train.stages.run_dir import stage_dir

SHARED = (
    "--tasks.test=200",
    "--evaluate.num_tasks=200",
    "--evaluate.num_samples=2",
    "--sft.num_demonstrations=2000",
    "--sft.epochs=3",
    "--grpo.max_steps=60",
    "--grpo.evaluate_every=20",
    "--checkpoints.every=10",
)
SMALL = (  # of --smoke
    "--model.tiny=[32, 1]",
    "--tasks.train=12",
    "--tasks.dev=4",
    "--tasks.test=4",
    "--evaluate.num_tasks=4",
    "--evaluate.num_samples=1",
    "--sft.num_demonstrations=6",
    "--sft.epochs=1",
    "--grpo.max_steps=2",
    "--grpo.groups_per_step=2",
    "--grpo.group_size=2",
    "--grpo.evaluate_every=2",
    "--checkpoints.every=1",
)
SHARES = (0.3, 1.0, 3.0)  # of the configured cost weight, for each form of the reward
DEV_SAMPLES = 4


def main(argv: list[str]) -> int:
    """Make what is missing, write the report."""
    given = parse(argv)
    ends_at = time.monotonic() + 60 * given.minutes
    place = Place(given.folder.resolve(), given.config.resolve(), SMALL if given.smoke else SHARED)
    study = plan_study(place, given.seeds, is_small=given.smoke)

    def make(cells: Sequence[Cell]) -> None:
        left = ends_at - time.monotonic()
        if left > 0:
            make_cells(place, cells, jobs=given.jobs, budget_s=left)

    make(study.arms)
    make([*study.ablations, *study.extras])
    study = replace(study, rejection=list_rejection(place, study))
    make(study.rejection)
    study = replace(study, matched=list_matched(place, study))
    make(study.matched)
    text = "\n".join(write_report(study, argv))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 1 if study.is_open or find_missing(place, study.cells) else 0


def parse(argv: list[str]) -> argparse.Namespace:
    """Return what the command was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--config", type=Path, default=ROOT / "configs/tiny.yaml")
    parser.add_argument("--folder", type=Path, help="of the runs [runs/scarcity]")
    parser.add_argument("--out", type=Path, help="[benchmarks/results/study.md]")
    parser.add_argument("--minutes", type=float, default=math.inf, help="of this slice")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each on its cores")
    parser.add_argument("--smoke", action="store_true", help="one seed, two steps")
    given = parser.parse_args(argv)
    if given.smoke:
        given.seeds = [0]
    folder = Path("runs/scarcity-smoke" if given.smoke else "runs/scarcity")
    given.folder = given.folder or folder
    report = ROOT / "benchmarks/results/study.md"
    given.out = given.out or (given.folder / "study.md" if given.smoke else report)
    return given


def plan_study(place: Place, seeds: Sequence[int], *, is_small: bool) -> Study:
    """Return the cells that need no other one's result; the most important come first."""
    settings = place.settings(Cell("any", 0))
    overrides: dict[str, tuple[str, ...]]
    overrides = {arm: (f"--context.strategy={arm}",) for arm in ARMS_AT_W}
    overrides["full_history"] += ("--sft.needs_rewrite_share=0",)  # it cannot
    overrides[WIDE] = (*overrides["full_history"], *widen(settings))
    arms = [
        Cell(f"{arm}{seed}", seed, given, policies=("sft", "grpo"))
        for seed in seeds
        for arm, given in overrides.items()
    ]
    ablations = [
        Cell(
            f"learned{seed}_without_{each}",
            seed,
            (*overrides["learned"], f"--context.without=[{each}]"),
            policies=(f"{{folder}}/learned{seed}/grpo/adapter",),
            warm_start=f"learned{seed}",
        )
        for seed in seeds
        for each in (BEHAVIOURS[:1] if is_small else BEHAVIOURS)
    ]
    return Study(
        place=place,
        seeds=tuple(seeds),
        arms=tuple(arms),
        ablations=tuple(ablations),
        extras=tuple(list_extras(settings, seeds[0], overrides["learned"], is_small=is_small)),
    )


def widen(settings: Settings) -> tuple[str, ...]:
    """Return the overrides for windows four times as large, as far as a batch holds them."""
    asked = settings.context.window_tokens
    most = min(settings.grpo.tokens_per_microbatch, settings.sft.tokens_per_batch)
    if not isinstance(asked, OfLeastPeak):
        wide: object = [min(4 * size, most) for size in asked]
    else:
        wide = {
            name: [4 * each for each in value] if name == "of_least_peak" else min(4 * value, most)
            for name, value in asked.model_dump(mode="json").items()
        }
    return (f"--context.window_tokens={to_json(wide)}", "--context.needs_rewrite_share=null")


def list_extras(
    settings: Settings, seed: int, learned: Sequence[str], *, is_small: bool
) -> list[Cell]:
    """Return the cells of one seed that go on from the warm start of `learned`.

    Forms of the reward are evaluated on dev tasks, `learned` too, to be compared with.
    """
    dev = (
        *learned,
        "--evaluate.split=dev",
        f"--evaluate.num_tasks={settings.tasks.dev}",
        f"--evaluate.num_samples={DEV_SAMPLES}",
    )
    own, start = f"{{folder}}/learned{seed}/grpo/adapter", f"learned{seed}"
    cells = [
        Cell(f"price{seed}", seed, (*learned, "--reward.cost=price"), ("grpo",), start),
        Cell(name_reference(seed), seed, dev, (own,), start),
    ]
    for form in FORMS[-1:] if is_small else FORMS:
        for share in (1.0,) if is_small or form == "outcome_only" else SHARES:
            weight = 0.0 if form == "outcome_only" else share * settings.reward.cost_weight
            if form == "default" and share == 1.0:
                continue  # which is `learned` itself
            chosen = (f"--reward.advantage={form}", f"--reward.cost_weight={weight:g}")
            name = f"{form}_{weight:g}_{seed}"
            cells.append(Cell(name, seed, (*dev, *chosen), ("grpo",), start))
    return cells


def list_matched(place: Place, study: Study) -> tuple[Cell, ...]:
    """Return the evaluations on test tasks of the forms of the reward, once dev tasks have chosen.

    Without any as long as not all weights of all forms are trained.
    """
    if find_missing(place, study.extras):
        return ()
    seed, learned = study.seeds[0], study.arms[0].settings
    return tuple(
        Cell(
            f"{form}_test{seed}",
            seed,
            learned,
            policies=(f"{{folder}}/{chosen.name}/grpo/adapter",),
            warm_start=f"learned{seed}",
        )
        for form, chosen in find_matched(study).items()
    )


def list_rejection(place: Place, study: Study) -> tuple[Cell, ...]:
    """Return the cell that trains on what GRPO's own rollouts solved; none before that is trained.

    Like GRPO it trains an adapter on the warm start, in about as many steps and at its rate; each
    solved episode is seen once.
    """
    seed, source = study.seeds[0], study.arms[0]
    if not place.is_whole(source, "grpo"):
        return ()
    settings = place.settings(source)
    solved = read_solved(place, source)
    num_tokens = sum(len(ids) for episode in solved for ids in episode.segment_ids)
    per_step = max(num_tokens // settings.grpo.max_steps, settings.sft.tokens_per_batch)
    overrides = (
        *source.settings,
        f"--model.base={place.folder}/{source.name}/sft/model",
        "--model.tiny=[256, 4]",  # the default: a base has a shape of its own
        "--model.chat_template=null",
        "--sft.epochs=1",
        f"--sft.tokens_per_batch={per_step}",
        f"--sft.learning_rate={settings.grpo.learning_rate:g}",
    )
    cell = Cell(f"rejection{seed}", seed, overrides, policies=("sft",))
    write_solved(place, source, cell, solved)
    return (cell,)


def read_solved(place: Place, source: Cell) -> list[Episode]:
    """Return the episodes that the GRPO of a cell has solved, once where two are alike."""
    stage, found = place.stage(source, "grpo"), dict[tuple[object, ...], Episode]()
    for name in stage.list_episodes("step_"):
        for episode in filter(is_solved, stage.read_episodes(name)):
            found.setdefault((episode.task_id, episode.segment_ids), episode)
    return list(found.values())


def write_solved(place: Place, source: Cell, cell: Cell, solved: Sequence[Episode]) -> None:
    """Make the demonstrations of a cell of solved episodes, with the tokenizer that played them."""
    settings = place.settings(cell)
    begun = stage_dir(settings, "demos")
    if begun.is_done() or not solved:
        return
    inputs = [stage_dir(settings, "tasks")]
    stage = open_stage(settings, "demos", clean=begun.path.exists(), inputs=inputs)
    shutil.copytree(run_tokenizer(place.settings(source)), run_tokenizer(settings))
    stage.write_episodes("demonstrations", solved)
    facts = {"num_demonstrations": len(solved), "rollouts_of": source.name}
    stage.finish(facts, output=stage.episode_file("demonstrations"))


if __name__ == "__main__":
    sys.exit(run_main(main, sys.argv[1:]))
