"""What a stage plays on."""

from pathlib import Path

from envs.sources.synthetic import generate
from envs.tasks.store import Manifest, write_built
from tests.train.small_run import add_tokenizer, settings_in
from train.rollouts.arena import open_arena


def test_a_stage_plays_tasks_of_the_asked_difficulty_only(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, "--tasks.difficulty={sites: [2, 2]}")
    tasks = list(generate(20, split="train", seed=0))
    manifest = Manifest(source="synthetic", seed=0, licence="Apache-2.0")
    write_built(tmp_path / "tasks", tasks=tasks, manifest=manifest)
    add_tokenizer(settings)
    hard = [task.public.id for task in tasks if task.public.difficulty.sites == 2]
    with open_arena(settings) as arena:
        assert [task.id for task in arena.store.split("train")] == hard
    assert 0 < len(hard) < 20
