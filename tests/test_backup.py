"""Backup and restore: consistent while running, verified, nothing overwritten without a copy (R48)."""

from __future__ import annotations

import fcntl
import gzip
import io
import json
import os
import sqlite3
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import Filler

from threatlens.backup import make_backup, restore_backup
from threatlens.errors import BackupError
from threatlens.settings import PROJECT, Settings, load_settings, prepare_data_folder
from threatlens.store import EventStore
from threatlens.store_backup import check_database, copy_database
from threatlens.store_config import ConfigTable
from threatlens.vault import Vault

NOW = 1_795_000_000.0


@pytest.fixture
def filled(store: EventStore, settings: Settings, filler: Filler) -> EventStore:
    filler.add(*(f"line {number}" for number in range(100)))
    (Path(settings.data) / "threatlens.yaml").write_text("max_queue_size: 500\n")
    rules = Path(settings.data) / "rules" / "own"
    rules.mkdir(parents=True)
    (rules / "a.yml").write_text("title: a\n")
    return store


def backup(settings: Settings, path: Path, **changes: Any) -> int:
    return make_backup(settings, str(path), version="1.2.3", clock=lambda: NOW, **changes)


def restore(settings: Settings, path: Path, **changes: Any) -> Any:
    return restore_backup(settings, str(path), clock=lambda: NOW, **changes)


def count(path: str) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("SELECT count(*) FROM events").fetchone()[0])
    finally:
        connection.close()


def elsewhere(tmp_path: Path) -> Settings:
    """The settings of another, empty installation."""
    settings = load_settings({"THREATLENS_DATA": str(tmp_path / "other")})
    prepare_data_folder(settings)
    return settings


def test_a_backup_holds_database_and_configuration_and_no_key(
    filled: EventStore, settings: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "backup.tl"
    size = backup(settings, path)

    with tarfile.open(path) as tar:
        names = tar.getnames()
        manifest = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert names == ["manifest.json", "threatlens.db", "threatlens.yaml", "rules/own/a.yml"]
    assert (manifest["version"], manifest["created"]) == ("1.2.3", "2026-11-18T11:06:40Z")
    assert size == path.stat().st_size
    assert path.stat().st_mode & 0o777 == 0o600
    assert Path(settings.key_path).read_bytes() not in gzip.decompress(path.read_bytes())
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_what_was_saved_is_there_on_another_machine(filled: EventStore, settings: Settings, tmp_path: Path) -> None:
    path, other = tmp_path / "backup.tl", elsewhere(tmp_path)
    backup(settings, path)

    done = restore(other, path)

    assert done.kept_in == ""
    assert count(other.database_path) == 100
    assert (Path(other.data) / "threatlens.yaml").read_text() == "max_queue_size: 500\n"
    assert (Path(other.data) / "rules/own/a.yml").read_text() == "title: a\n"
    assert Path(other.key_path).read_text() != Path(settings.key_path).read_text()
    assert [each.name for each in Path(other.data).iterdir() if each.name.startswith(".")] == []


def test_a_restore_keeps_what_it_replaces(
    filled: EventStore, settings: Settings, filler: Filler, tmp_path: Path
) -> None:
    path = tmp_path / "backup.tl"
    backup(settings, path)
    filler.add("one more", "and another")  # they stand in the write-ahead log only
    (Path(settings.data) / "threatlens.yaml").write_text("max_queue_size: 600\n")
    filled.database.engine.dispose()

    done = restore(settings, path)

    kept = Path(done.kept_in)
    assert kept.name == "before-restore-20261118T110640Z"
    assert count(str(kept / "threatlens.db")) == 102
    assert (kept / "threatlens.yaml").read_text() == "max_queue_size: 600\n"
    assert (kept / "rules/own/a.yml").exists()
    assert count(settings.database_path) == 100


def test_a_backup_is_one_state_although_somebody_writes_all_the_time(
    filled: EventStore, settings: Settings, filler: Filler, tmp_path: Path
) -> None:
    stop, written = threading.Event(), []

    def write() -> None:
        while not stop.is_set():
            written.append(filler.add("x" * 500, "y" * 500))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(3):
            before = len(written)
            backup(settings, tmp_path / f"{number}.tl")
            copy = tmp_path / f"{number}.db"
            copy_database(settings.database_path, str(copy))
            check_database(str(copy))
            connection = sqlite3.connect(copy)
            events, ledger = connection.execute(
                "SELECT (SELECT count(*) FROM events), (SELECT sum(lines) FROM raw_logs)"
            ).fetchone()
            connection.close()
            assert events == ledger
            assert events >= 100 + 2 * before
    finally:
        stop.set()
        writer.join(60)
    assert len(written) > 3


def test_an_encrypted_backup_opens_with_its_passphrase_only(
    filled: EventStore, settings: Settings, tmp_path: Path
) -> None:
    path, other = tmp_path / "backup.tl", elsewhere(tmp_path)
    backup(settings, path, passphrase="correct horse")

    assert b"manifest" not in path.read_bytes()
    with pytest.raises(BackupError, match="is encrypted"):
        restore(other, path)
    with pytest.raises(BackupError, match="passphrase is wrong"):
        restore(other, path, passphrase="wrong horse")
    restore(other, path, passphrase="correct horse")
    assert count(other.database_path) == 100


@pytest.mark.parametrize("passphrase", ["", "correct horse"])
def test_a_backup_that_is_cut_off_or_changed_anywhere_changes_nothing(
    filled: EventStore, settings: Settings, tmp_path: Path, passphrase: str
) -> None:
    path, other = tmp_path / "backup.tl", elsewhere(tmp_path)
    backup(settings, path, passphrase=passphrase)
    whole = path.read_bytes()
    bad = tmp_path / "bad.tl"

    for cut in (0, 1, 27, 28, 30, 44, 60, len(whole) // 2, len(whole) - 20, len(whole) - 1):
        bad.write_bytes(whole[:cut])
        with pytest.raises(BackupError):
            restore(other, bad, passphrase=passphrase)
    for place in (12, 45, 100, len(whole) // 3, len(whole) // 2, len(whole) - 12):
        changed = bytearray(whole)
        changed[place] ^= 0x10
        bad.write_bytes(changed)
        with pytest.raises(BackupError):
            restore(other, bad, passphrase=passphrase)
    assert not os.path.exists(other.database_path)


def test_pieces_of_an_encrypted_backup_cannot_change_places(
    settings: Settings, store: EventStore, tmp_path: Path
) -> None:
    (Path(settings.data) / "rules").mkdir()
    (Path(settings.data) / "rules" / "noise.yml").write_bytes(os.urandom(3 << 20))
    path, other = tmp_path / "backup.tl", elsewhere(tmp_path)
    backup(settings, path, passphrase="p")
    whole, start, piece = path.read_bytes(), 28 + 16, (1 << 20) + 16
    pieces = [whole[at : at + piece] for at in range(start, len(whole), piece)]
    assert len(pieces) > 3
    bad = tmp_path / "bad.tl"

    for order in ([1, 0, *range(2, len(pieces))], [*range(len(pieces) - 1)], [0, 0, *range(1, len(pieces))]):
        bad.write_bytes(whole[:start] + b"".join(pieces[each] for each in order))
        with pytest.raises(BackupError):
            restore(other, bad, passphrase="p")


def crafted(path: Path, change: Callable[[dict[str, Any], dict[str, bytes]], None], source: Path) -> Path:
    """A backup like `source`, with its manifest and members changed."""
    members: dict[str, bytes] = {}
    with tarfile.open(source) as tar:
        for info in tar:
            members[info.name] = tar.extractfile(info).read()  # type: ignore[union-attr]
    manifest = json.loads(members.pop("manifest.json"))
    change(manifest, members)
    with tarfile.open(path, "w:gz") as tar:
        for name, content in {"manifest.json": json.dumps(manifest).encode(), **members}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def _evil(name: str) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    def change(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
        members[name] = members["threatlens.yaml"]
        manifest["files"][name] = manifest["files"]["threatlens.yaml"]

    return change


def _other_hash(manifest: dict[str, Any], _members: dict[str, bytes]) -> None:
    manifest["files"]["threatlens.yaml"]["sha256"] = "0" * 64


def _newer_format(manifest: dict[str, Any], _members: dict[str, bytes]) -> None:
    manifest["format"] = 2


def _unnamed(_manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    members["rules/x.yml"] = b"x"


def _no_database(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    del manifest["files"]["threatlens.db"], members["threatlens.db"]


@pytest.mark.parametrize(
    "change",
    [
        _evil("rules/../../evil"), _evil("/etc/evil"), _evil("secret.key"), _evil("engine.lock"), _evil("rules//x"),
        _evil("spool/x"), _other_hash, _newer_format, _unnamed, _no_database,
    ],
)  # fmt: skip
def test_a_backup_that_somebody_made_up_writes_nothing(
    filled: EventStore, settings: Settings, tmp_path: Path, change: Any
) -> None:
    good, other = tmp_path / "backup.tl", elsewhere(tmp_path)
    backup(settings, good)
    before = sorted(str(each) for each in tmp_path.rglob("*"))

    with pytest.raises(BackupError):
        restore(other, crafted(tmp_path / "bad.tl", change, good))

    after = sorted(str(each) for each in tmp_path.rglob("*"))
    assert [each for each in after if each not in before] == [
        str(tmp_path / "bad.tl"), f"{other.data}/engine.lock",
    ]  # fmt: skip


def test_a_database_of_a_newer_version_is_refused(filled: EventStore, settings: Settings, tmp_path: Path) -> None:
    with filled.database.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(BackupError, match="newer ThreatLens"):
        backup(settings, tmp_path / "backup.tl")
    assert list(tmp_path.glob("*.tl")) == []


def test_a_backup_never_overwrites(filled: EventStore, settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "backup.tl"
    path.write_text("precious")

    with pytest.raises(BackupError, match="exists already"):
        backup(settings, path)
    assert path.read_text() == "precious"


def test_a_folder_that_cannot_be_written_is_said_in_a_sentence(
    filled: EventStore, settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(BackupError, match=r"^the backup cannot be written: No such file or directory$"):
        backup(settings, tmp_path / "nowhere" / "backup.tl")


def test_a_restore_waits_for_nobody_while_an_engine_runs(
    filled: EventStore, settings: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "backup.tl"
    backup(settings, path)
    with open(settings.lease_path, "a+") as lease:
        fcntl.flock(lease, fcntl.LOCK_EX)
        with pytest.raises(BackupError, match="is running"):
            restore(settings, path)


def test_a_restore_says_when_secrets_need_their_key(filled: EventStore, settings: Settings, tmp_path: Path) -> None:
    sealed = Vault(lambda: ["a key"]).seal("x", "configuration")
    ConfigTable(filled.database).save(json.dumps({"llm": {"api_key": sealed}}))
    path = tmp_path / "backup.tl"
    backup(settings, path)

    assert restore(elsewhere(tmp_path), path).needs_key


# --- with the real program


def threatlens(data: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "threatlens", *arguments],
        cwd=PROJECT, env=dict(os.environ, THREATLENS_DATA=str(data), **environ),
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_what_was_written_after_the_backup_is_read_again_once(tmp_path: Path) -> None:
    data, log, path = tmp_path / "data", tmp_path / "auth.log", tmp_path / "backup.tl"

    def write(first: int, last: int) -> None:
        with log.open("a") as file:
            file.writelines(f"Nov 23 06:51:07 web1 sshd[1]: line {number}\n" for number in range(first, last))

    write(0, 100)
    assert threatlens(data, "ingest", "--source", "auth", str(log)).returncode == 0
    made = threatlens(data, "backup", str(path), THREATLENS_BACKUP_PASSPHRASE="correct horse")
    assert made.returncode == 0, made.stderr
    assert "verified, encrypted" in made.stdout
    write(100, 150)
    assert threatlens(data, "ingest", "--source", "auth", str(log)).returncode == 0
    assert count(str(data / "threatlens.db")) == 150

    restored = threatlens(data, "restore", str(path), THREATLENS_BACKUP_PASSPHRASE="correct horse")
    assert restored.returncode == 0, restored.stderr
    assert "before-restore-" in restored.stdout
    assert count(str(data / "threatlens.db")) == 100
    write(150, 160)
    again = threatlens(data, "ingest", "--source", "auth", str(log))

    assert "60 lines" in again.stdout
    connection = sqlite3.connect(data / "threatlens.db")
    lines = [row[0].rpartition(" ")[2] for row in connection.execute("SELECT raw FROM events ORDER BY id")]
    connection.close()
    assert lines == [str(number) for number in range(160)]


def test_the_command_line_says_what_is_wrong_in_a_sentence(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (tmp_path / "no.tl").write_text("no backup")

    wrong = threatlens(data, "restore", str(tmp_path / "no.tl"))
    missing = threatlens(data, "restore", str(tmp_path / "none.tl"))
    empty = threatlens(data, "backup", str(tmp_path / "b.tl"), "--passphrase-file", str(tmp_path / "none"))

    assert (wrong.returncode, missing.returncode, empty.returncode) == (1, 1, 1)
    assert wrong.stderr.strip().endswith("is not a backup of ThreatLens, or it is damaged")
    assert missing.stderr.strip().endswith("cannot be read: No such file or directory")
    assert "Traceback" not in wrong.stderr + missing.stderr + empty.stderr
