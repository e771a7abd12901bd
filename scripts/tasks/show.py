"""`tightrope tasks show ID`: prints one task; with `--private` its answer and hidden tests too.

tightrope tasks show t_0123456789ab --config configs/tiny.yaml --private
"""

from envs.errors import UserError
from envs.source_text import source_lines
from tightrope_cli.tasks.task_set import open_set
from train.config.load import Flag, parse_command


def main(argv: list[str]) -> int:
    """Print the task; returns the exit code."""
    command = parse_command(
        argv,
        prog="tightrope tasks show",
        description="Print one task.",
        example="tightrope tasks show t_0123456789ab --config configs/tiny.yaml",
        flags=[
            Flag("id", "a task's id, or the start of one"),
            Flag("--private", "show the answer and the hidden tests too", kind=bool),
        ],
        common=[],
    )
    store, wanted = open_set(command), command.flags["id"]
    found = [task for name, task in store.public.items() if name.startswith(wanted)]
    if len(found) != 1:
        what = "several tasks start with this" if found else "no task has this id"
        raise UserError(what, got=wanted, remedy=f"ids look like {', '.join([*store.public][:3])}")
    task, hidden = found[0], store.hidden[found[0].id]
    print(f"{task.id} ({task.split}, {task.project}, {task.provenance.licence})\n")
    print(f"{task.statement}\n\nvisible tests: {', '.join(task.visible_tests)}")
    shown = {test.partition("::")[0] for test in task.visible_tests}
    for path, text in store.workspace(task).items():
        if path in shown or (path in task.editable and hidden.grader == "io"):
            print(f"\n--- {path}\n{text.rstrip()}")
        else:
            note = ", editable" if path in task.editable else ""
            print(f"{path} ({len(source_lines(text))} lines{note})")
    if command.flags["private"]:
        print(f"\noperators: {', '.join(hidden.operators)}\n{hidden.gold_patch}")
        print(f"fail to pass: {', '.join(hidden.fail_to_pass)}")
        print(f"pass to pass: {len(hidden.pass_to_pass)} tests")
        for case in hidden.cases:
            print(f"  {case.id}  {case.function}{case.args} gives {case.expected}")
    return 0
