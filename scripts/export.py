"""`tightrope export`: writes the trained adapter so that it can be served; proves that it loads.

    tightrope export --config configs/tiny.yaml

An export that exists is refused unless `--clean` is given: it may be served from there.
"""

import sys

from train.load import COMMON_FLAGS, parse_command
from train.progress import Progress
from train.run_dir import Stage, open_stage, require, stage_dir


def main(argv: list[str]) -> int:
    """Run the stage; returns the exit code."""
    command = parse_command(
        argv,
        prog="tightrope export",
        description="Write the trained adapter with tokenizer, chat template and model card.",
        example="tightrope export --config configs/tiny.yaml",
        common=[flag for flag in COMMON_FLAGS if flag.name != "--force"],
    )
    settings = command.settings
    from_scratch = settings.model.kind == "tiny"
    names: tuple[Stage, ...] = ("demos", "sft", "grpo") if from_scratch else ("demos", "grpo")
    inputs = [require(settings, name, config=command.config) for name in names]
    if command.dry_run:
        from train.export import check_tensors, read_adapter

        check_tensors(read_adapter(stage_dir(settings, "grpo").path / "adapter"))
        print(f"the adapter is sound; would write {stage_dir(settings, 'export').path}/adapter")
        return 0
    stage = open_stage(
        settings, "export", resume=command.resume, clean=command.clean, inputs=inputs
    )
    if not stage.is_done():
        from train.export import export

        with Progress("export", total=5, unit="steps") as progress:

            def report(what: str) -> None:
                progress.note = what
                progress.report()
                progress.advance()

            facts = export(settings, stage, report=report)
        if facts["changed_by_grpo"] is False:
            sys.stderr.write("note: GRPO left the adapter as the warm start made it: no signal\n")
        stage.finish(facts, output=stage.path / "adapter")
    print(stage.path / "adapter")
    return 0
