"""Versions of an adapter appear whole, under names that occur once, and go when they are stale."""

from pathlib import Path

from tests.train.servers.stand_in import StandIn
from train.servers import client
from train.servers.adapters import AdapterFolder

NOWHERE = "http://127.0.0.1:9"


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


def test_what_a_killed_run_had_served_is_gone_with_the_next_start(tmp_path: Path) -> None:
    record, folder = tmp_path / "run" / "served.json", tmp_path / "shared"
    server = StandIn(lambda name, body: ([], [], "stop"))
    with server.running():
        killed = AdapterFolder(folder, "run-1f", record=record)
        killed.begin([server.url, NOWHERE])
        for version in (3, 4):
            killed.write(version, save)
            client.load_adapter(server.url, killed.name(version), killed.path(version))
        other = AdapterFolder(folder, "run-1")  # of another run: its name begins alike
        other.write(0, save)
        client.load_adapter(server.url, "run-1-v0", other.path(0))
        (folder / "run-1f-v5.part").mkdir()
        AdapterFolder(folder, "run-2e", is_main=False, record=record).begin([])
        assert len(server.adapters) == 3, "only the main process does anything"
        again = AdapterFolder(tmp_path / "elsewhere", "run-2e", record=record)
        again.begin([server.url])
        assert list(server.adapters) == ["run-1-v0"] == [each.name for each in folder.iterdir()]
        again.write(0, save)
        again.end()
    assert not list((tmp_path / "elsewhere").iterdir()) and not record.exists()
