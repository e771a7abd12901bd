"""Each project of the table gives tasks whose visible test fails, or the refusal that is due."""

import pytest

from envs.errors import UserError
from envs.projects.local_folder import open_local
from envs.sources.build import build
from envs.tasks.store import TaskStore
from tests.envs.projects.awkward_suites import AWKWARD


def write(folder, files):
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        content = text if isinstance(text, bytes) else text.encode("utf-8")
        (folder / path).write_bytes(content)
    return folder


@pytest.mark.parametrize("name", AWKWARD)
def test_it_gives_tasks_or_says_why_not(name, tmp_path):
    project = AWKWARD[name]
    folder = write(tmp_path / "mine", project.files)
    options = dict(zip(project.options[::2], project.options[1::2], strict=True))
    environment = dict([options["--env"].split("=")]) if "--env" in options else {}
    exclude = [options["--exclude"]] if "--exclude" in options else []
    asked = {"exclude": exclude, "environment": environment, "suite_s": 10.0}

    def make():
        cache = tmp_path / "cache"
        local = open_local(folder, python=None, cache_dir=cache, **asked)
        assert project.left_out in (None, len(local[0].excluded_tests)), local[0].excluded_tests
        counts = {"train": 2, "dev": 0, "test": 0}
        build("path", out_dir=tmp_path / "set", counts=counts, seed=0, cache_dir=cache, local=local)

    if project.due:
        with pytest.raises(UserError) as caught:
            make()
        assert project.due in str(caught.value)
        return
    make()
    store = TaskStore.open(tmp_path / "set")
    assert len(store.public) == 2
    for task in store.public.values():
        shown = {test.partition("::")[0] for test in task.visible_tests}
        assert shown <= store.workspace(task).keys()
        assert store.hidden[task.id].unseen_tests
