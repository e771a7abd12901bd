"""`tightrope report --config FILE`: writes runs/NAME/report/index.html from the files of the run.

Its charts also lie beside it as files, figures/NAME.png and .svg. The run is only read, so this can
be called at any time; a report from before is replaced.
"""

from collections.abc import Sequence

from envs.errors import UserError
from train.config.load import parse_command
from train.stages.open_stage import open_stage
from train.stages.run_dir import stage_dir
from train.stages.stage_log import keep_log


def main(argv: Sequence[str]) -> int:
    """Write the page and print its path; returns the exit code."""
    command = parse_command(
        argv,
        prog="tightrope report",
        description="Writes one HTML page about a run.",
        example="tightrope report --config configs/tiny.yaml",
        common=("--clean",),
    )
    run_dir = stage_dir(command.settings, "report").path.parent
    if not run_dir.is_dir():
        remedy = f"accelerate launch train/sft.py {command.experiment}"
        raise UserError(f"{run_dir} is missing: there is no run to report on", remedy=remedy)
    # made from files that stay: replacing it loses nothing, so nobody has to ask for that
    stage = open_stage(command.settings, "report", clean=True)
    keep_log(stage.path, resumes=False)
    from tightrope_cli.pages.report import build_report  # matplotlib takes a second to load

    figures = stage.path / "figures"
    page = build_report(run_dir, stage.path / "index.html", figures=figures)
    facts = {"page": page.name, "figures": sorted(path.name for path in figures.glob("*"))}
    stage.finish(facts, output=page)
    print(page)
    return 0
