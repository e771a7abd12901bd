"""`tightrope export`: writes the trained adapter so that it can be served; proves that it loads.

    tightrope export --config configs/tiny.yaml --merged

`--merged` also writes base and adapter folded into one model, for what takes no adapters. An export
that exists is refused unless `--clean` is given: it may be served from there. `--resume --merged`
adds what is missing.
"""

from train.config.load import Flag, parse_command
from train.stages.open_stage import open_stage, require
from train.stages.progress import Progress
from train.stages.run_dir import Stage, stage_dir
from train.stages.stage_log import keep_log, say


def main(argv: list[str]) -> int:
    """Run the stage; returns the exit code."""
    command = parse_command(
        argv,
        prog="tightrope export",
        description="Write the trained adapter with tokenizer, chat template and model card.",
        example="tightrope export --config configs/tiny.yaml",
        flags=[Flag("--merged", "also fold the adapter into the base: merged/", kind=bool)],
        common=("--dry-run", "--resume", "--clean"),
    )
    settings, merged = command.settings, command.flags["merged"]
    from_scratch = settings.model.kind == "tiny"
    names: tuple[Stage, ...] = ("demos", "sft", "grpo") if from_scratch else ("demos", "grpo")
    inputs = [require(settings, name, experiment=command.experiment) for name in names]
    if command.dry_run:
        from train.export.export import check_tensors, read_adapter

        check_tensors(read_adapter(stage_dir(settings, "grpo").path / "adapter"))
        made = "adapter and merged" if merged else "adapter"
        print(f"the adapter is sound; would write {stage_dir(settings, 'export').path}/{made}")
        return 0
    found = stage_dir(settings, "export")
    folders = [found.path / name for name in ("adapter", *(["merged"] if merged else []))]
    stage = open_stage(
        settings,
        "export",
        resume=command.resume,
        clean=command.clean,
        reopen=not all(folder.is_dir() for folder in folders),
        inputs=inputs,
    )
    keep_log(stage.path)
    if not stage.is_done():
        from train.export.export import export

        with Progress("export", total=4 + merged, unit="steps") as progress:

            def report(what: str) -> None:
                progress.note = what
                progress.report()
                progress.advance()

            facts = export(settings, stage, report=report, merged=merged)
        if facts["changed_by_grpo"] is False:
            say("note: GRPO left the adapter as the warm start made it: no signal")
        stage.finish(facts, output=stage.path / "adapter")
    for folder in folders:
        print(folder)
    return 0
