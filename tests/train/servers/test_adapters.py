"""Versions of an adapter appear whole, under names that occur once, and go when they are stale."""

from pathlib import Path

from train.servers.adapters import AdapterFolder


def save(folder: Path) -> None:
    folder.mkdir()
    assert folder.name.endswith(".part"), "nobody may load a half-written one"
    (folder / "adapter_config.json").write_text("{}")


def test_a_version_is_there_when_it_is_whole_and_until_it_is_stale(tmp_path: Path) -> None:
    adapters = AdapterFolder(tmp_path / "deep" / "served", "run-1f")
    for version in (0, 1, 2):
        adapters.write(version, save)
        adapters.keep(version, version - 1)
    assert sorted(each.name for each in adapters.folder.iterdir()) == ["run-1f-v1", "run-1f-v2"]
    assert [each.name for each in adapters.path(2).iterdir()] == ["adapter_config.json"]
    adapters.keep()
    assert list(adapters.folder.iterdir()) == []


def test_what_a_killed_run_left_half_written_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "run-v0.part").mkdir()
    adapters = AdapterFolder(tmp_path, "run")
    adapters.write(0, save)
    assert adapters.path(0).is_dir()


def test_other_processes_take_part_in_saving_and_write_nothing(tmp_path: Path) -> None:
    asked: list[Path] = []
    AdapterFolder(tmp_path / "served", "run", is_main=False).write(3, asked.append)
    assert len(asked) == 1 and not (tmp_path / "served").exists()
