"""What doctor finds on a machine that is well, and on machines that are not."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from threatlens.config import ConfigManager, SavedSource
from threatlens.doctor import Finding, Probes, run_checks
from threatlens.errors import DataFolderError
from threatlens.store_check import problems_of
from threatlens.store_schema import HEAD
from threatlens.vault import Vault

GIB = 1 << 30


class Book:
    """A ConfigBook that holds what it was given."""

    def __init__(self, *sources: SavedSource, settings: str = "") -> None:
        self.rows = [replace(source, source_id=number) for number, source in enumerate(sources, 1)]
        self.settings = settings

    def version(self) -> int:
        return 1

    def load(self) -> str:
        return self.settings

    def sources(self) -> list[SavedSource]:
        return self.rows


@dataclass
class Place:
    """A deployment in a temporary folder."""

    data: str
    logs: Path
    uses_sqlite: bool = True
    database_url: str = ""
    redis_url: str = ""

    @property
    def database_name(self) -> str:
        return self.database_path

    @property
    def database_path(self) -> str:
        return os.path.join(self.data, "threatlens.db")

    @property
    def lease_path(self) -> str:
        return os.path.join(self.data, "engine.lock")

    def config(self, text: str = "", *sources: SavedSource) -> ConfigManager:
        path = Path(self.data, "threatlens.yaml")
        path.write_text(f"allowed_roots: ['{self.logs}']\n" + text)
        path.chmod(0o600)
        manager = ConfigManager(
            str(path),
            forbidden=[self.data],
            book=Book(*sources),
            formats=frozenset,
            vault=Vault(lambda: ["k"]),
            clock=lambda: 4e9,
        )
        manager.load_config()
        return manager

    def source(self, path: str) -> ConfigManager:
        return self.config("", SavedSource(0, "app", str(self.logs / path)))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "logs").mkdir()
    return Place(str(tmp_path / "data"), tmp_path / "logs")


WELL = Probes(
    user=lambda: "lena",
    can_read=lambda _path: True,
    file_system=lambda _folder: "ext4",
    revision=lambda _path: HEAD,
    database_problems=lambda _path: [],
    cannot_watch=lambda: "",
    watch_limit=lambda: 65536,
    free=lambda _folder: (50 * GIB, 100 * GIB),
    descriptor_limit=lambda: 1024,
    wall=lambda: 1_795_000_000.0,
    monotonic=lambda: 5.0,
    is_alive=lambda _pid: True,
)


def bad(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if not finding.ok]


def only_bad(place: Place, config: ConfigManager | None = None, **probes: object) -> Finding:
    """The one thing that is wrong, where only these probes differ from a machine that is well."""
    (finding,) = bad(run_checks(place, config, probes=replace(WELL, **probes)))  # type: ignore[arg-type]
    return finding


def test_a_machine_that_is_well_has_no_bad_finding(place):
    (place.logs / "app.log").write_text("x\n")
    findings = run_checks(place, place.source("app.log"), probes=WELL)
    assert bad(findings) == []
    assert {finding.name for finding in findings} == {
        "data folder", "database", "configuration", "source app", "inotify", "open files", "disk", "clock", "engine",
    }  # fmt: skip


def test_the_probes_of_a_real_machine_answer(place):
    assert [finding.name for finding in run_checks(place, None) if finding.name == "disk"] == ["disk"]


def test_nothing_watched_yet_is_no_fault(place):
    findings = run_checks(place, place.config(), probes=WELL)
    assert bad(findings) == []
    assert "sources discover" in next(each.remedy for each in findings if each.name == "configuration")


def test_before_the_first_start_nothing_is_wrong(place):
    place.data += "/not/yet"
    assert bad(run_checks(place, None, probes=replace(WELL, revision=lambda _path: None))) == []


@pytest.mark.parametrize(
    ("mode", "probes", "detail", "remedy"),
    [
        (0o700, {"user_id": lambda: 99_999}, "another user", "sudo chown -R lena {data}"),
        (0o702, {}, "written by every user", "chmod 700 {data}"),
        (0o700, {"file_system": lambda _folder: "nfs4"}, "lies on nfs4", "THREATLENS_DATA"),
    ],
)
def test_a_data_folder_that_is_not_safe_is_told(place, mode, probes, detail, remedy):
    os.chmod(place.data, mode)
    finding = only_bad(place, **probes)
    assert finding.name == "data folder"
    assert detail in finding.detail
    assert remedy.replace("{data}", place.data) in finding.remedy


def test_a_key_that_others_may_read_is_told(place):
    key = Path(place.data, "secret.key")
    key.write_text("x")
    key.chmod(0o644)
    assert only_bad(place).remedy == f"chmod 600 {key}"


def refuse(_path: str) -> str:
    raise DataFolderError("it is empty (0 bytes); restore a backup in its place")


@pytest.mark.parametrize(
    ("probes", "words"),
    [
        ({"revision": refuse}, "restore a backup"),
        ({"revision": lambda _path: "0000"}, f"needs {HEAD}"),
        ({"database_problems": lambda _path: ["row 5 missing from index"]}, "row 5 missing"),
    ],
)
def test_a_database_that_is_not_sound_is_told(place, probes, words):
    finding = only_bad(place, **probes)
    assert finding.name == "database"
    assert words in finding.detail


def test_a_configuration_error_is_told_with_its_place(place):
    finding = only_bad(place, place.config("max_queue_size: 1\n"))
    assert finding.name == "configuration"
    assert f"{place.data}/threatlens.yaml:2:17: max_queue_size: must be a whole number" in finding.detail


def test_a_secret_that_is_not_there_is_told_without_any_secret(place, monkeypatch):
    monkeypatch.delenv("HOOK_SECRET", raising=False)
    text = "channels:\n  - {name: hook, type: webhook, url: 'https://example.org/', secret: 'env:HOOK_SECRET'}\n"
    finding = only_bad(place, place.config(text))
    assert finding.detail == "channel 'hook': the environment variable HOOK_SECRET is not set"
    monkeypatch.setenv("HOOK_SECRET", "x")
    assert bad(run_checks(place, place.config(text), probes=WELL)) == []


@pytest.mark.parametrize(("path", "words"), [("a.log", "there is no file"), ("*.log", "no file matches")])
def test_a_source_without_a_file_is_told(place, path, words):
    finding = only_bad(place, place.source(path))
    assert (finding.name, finding.detail) == ("source app", f"{words} {place.logs / path}")


def test_a_source_that_may_not_be_read_comes_with_the_command(place):
    for name in ("a.log", "b.log"):
        (place.logs / name).touch(mode=0o600)
    finding = only_bad(place, place.source("*.log"), can_read=lambda path: not path.endswith("b.log"))
    assert finding.detail == f"1 of 2 files may not be read, such as {place.logs}/b.log"
    assert finding.remedy == f"sudo setfacl -m u:lena:r {place.logs}/b.log"


def test_a_folder_that_may_not_be_listed_comes_with_the_command(place):
    finding = only_bad(place, place.source(""), can_read=lambda path: path != str(place.logs))
    assert finding.remedy == f"sudo setfacl -R -m u:lena:rX {place.logs}"


def test_the_files_of_a_folder_are_those_of_its_pattern(place):
    for name in ("a.log", "b.txt", "sub/c.log"):
        path = place.logs / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    settings = '{"file_pattern": "*.log", "recursive": true}'
    config = place.config("", SavedSource(0, "app", str(place.logs), settings=settings))
    findings = run_checks(place, config, probes=WELL)
    assert next(each.detail for each in findings if each.name == "source app") == "2 files"


@pytest.mark.parametrize(
    ("name", "probes", "words"),
    [
        ("inotify", {"cannot_watch": lambda: "Too many open files"}, "polled instead"),
        ("inotify", {"watch_limit": lambda: 1}, "1 allowed"),
        ("open files", {"descriptor_limit": lambda: 64}, "64 allowed, 257 needed"),
        ("disk", {"free": lambda _folder: (100 << 20, 10 * GIB)}, "0.1 GiB free"),
        ("disk", {"free": lambda _folder: (4 * GIB, 100 * GIB)}, "4.0 GiB free"),
        ("clock", {"wall": lambda: 0.0}, "year 1970"),
        ("clock", {"monotonic": iter([5.0, 4.0]).__next__}, "backwards"),
    ],
)
def test_a_limit_of_the_machine_is_told_with_a_remedy(place, name, probes, words):
    (place.logs / "a.log").touch()
    finding = only_bad(place, place.source("a.log"), **probes)
    assert finding.name == name
    assert words in finding.detail
    assert finding.remedy


def test_the_running_engine_is_named(place):
    Path(place.lease_path).write_text("4711\n")
    findings = run_checks(place, None, probes=WELL)
    assert findings[-1] == Finding("engine", True, "process 4711 runs it")
    findings = run_checks(place, None, probes=replace(WELL, is_alive=lambda _pid: False))
    assert findings[-1].detail == "not running"


def make_database(path: str, mode: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.execute("CREATE TABLE t (x TEXT)")
        connection.executemany("INSERT INTO t VALUES (?)", [("y" * 1000,)] * 100)
        connection.commit()


def test_a_sound_database_has_no_problems(tmp_path):
    make_database(str(tmp_path / "a?#%.db"), "wal")
    assert problems_of(str(tmp_path / "a?#%.db")) == []


def test_a_damaged_database_and_one_without_wal_are_told(tmp_path):
    path = tmp_path / "a.db"
    make_database(str(path), "delete")
    assert problems_of(str(path)) == ["its journal mode is delete, not WAL: readers and the writer wait for each other"]
    content = bytearray(path.read_bytes())
    content[8192:12288] = b"\xff" * 4096
    path.write_bytes(content)
    assert "malformed" in " ".join(problems_of(str(path)))
    path.write_bytes(b"this is not a database, whatever its name says" * 100)
    assert problems_of(str(path)) == ["file is not a database"]
    assert problems_of(str(tmp_path / "none.db")) == ["unable to open database file"]


def test_a_broken_rule_of_ones_own_is_told_with_file_and_line(tmp_path):
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "bad.yml").write_text("title: x\ndetection: [\n")
    deployment = Place(str(tmp_path), str(tmp_path))
    findings = [finding for finding in run_checks(deployment, None, probes=WELL) if finding.name == "rules"]
    assert [finding.ok for finding in findings] == [False]
    assert findings[0].detail.startswith("bad.yml:")
