"""A followed file that loses lines already seen is noticed (T1070.002); no kind of rotation is mistaken for that."""

from __future__ import annotations

import gzip
import os
import shutil
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from follow_bench import Bench

from threatlens.errors import StoreUnavailable
from threatlens.own_alerts import lines_removed
from threatlens.sources.losses import AGAIN_S, GRACE_S, LinesLost, Noticed

LINES = [
    b"Nov 26 10:%02d:%02d host sshd[%d]: Failed password for root from 203.0.113.9 port %d ssh2\n"
    % (i // 60, i % 60, 900 + i, 4000 + i)
    for i in range(200)
]
LOG = b"".join(LINES)
MORE = b"Nov 26 11:00:00 host sshd[1200]: Accepted password for root from 203.0.113.9 port 5000 ssh2\n"


@pytest.fixture
def log(bench: Bench) -> Path:
    """A file that was read in two steps, as logs are."""
    bench.source("*.log")
    path = bench.write("auth.log", b"".join(LINES[:150]))
    bench.read()
    bench.write("auth.log", b"".join(LINES[150:]))
    bench.read()
    return path


def found(bench: Bench) -> list[tuple[str, int, int]]:
    """(file name, bytes read, bytes left) of every loss that is told of once the dust has settled."""
    for _ in range(3):
        bench.read()
        bench.pass_time(GRACE_S)
    losses = bench.monitor.losses
    return [(os.path.basename(each.path), each.read_bytes, each.left_bytes) for each in losses]


def in_place(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def by_a_new_file(path: Path, data: bytes) -> None:
    """As sed -i and mv do."""
    twin = path.with_name("sedXYZ")
    twin.write_bytes(data)
    twin.rename(path)


WITHOUT = {
    "nothing left": b"",
    "without lines in the middle": b"".join(LINES[:90] + LINES[110:]),
    "without its first lines": b"".join(LINES[20:]),
    "without its last lines": b"".join(LINES[:180]),
    "without many last lines": b"".join(LINES[:100]),
    "other lines": b"".join(line.replace(b"root", b"anna") for line in LINES),
}


@pytest.mark.parametrize("down", [False, True], ids=["running", "down"])
@pytest.mark.parametrize("left", WITHOUT.values(), ids=WITHOUT.keys())
def test_a_file_written_anew_without_lines_is_told_of(bench: Bench, log: Path, left: bytes, down: bool) -> None:
    if down:
        bench.crash()
    in_place(log, left)
    assert found(bench) == [("auth.log", len(LOG), len(left))]


@pytest.mark.parametrize("down", [False, True], ids=["running", "down"])
@pytest.mark.parametrize("what", [name for name in WITHOUT if name.startswith("without")])
def test_a_file_replaced_by_a_part_of_itself_is_told_of(bench: Bench, log: Path, what: str, down: bool) -> None:
    if down:
        bench.crash()
    by_a_new_file(log, WITHOUT[what])
    assert found(bench) == [("auth.log", len(LOG), len(WITHOUT[what]))]


def test_a_file_read_at_one_go_is_watched_too(bench: Bench) -> None:
    bench.source("*.log")
    path = bench.write("auth.log", LOG)
    bench.read()
    by_a_new_file(path, WITHOUT["without lines in the middle"])
    assert len(found(bench)) == 1


def copytruncate(path: Path) -> None:
    shutil.copyfile(path, path.with_name("auth.log.1"))
    os.truncate(path, 0)


def copytruncate_and_compress(path: Path) -> None:
    path.with_name("auth.log.1.gz").write_bytes(gzip.compress(path.read_bytes()))
    os.truncate(path, 0)


def copytruncate_with_late_lines(path: Path) -> None:
    shutil.copyfile(path, path.with_name("auth.log.1"))
    with path.open("ab") as file:
        file.write(MORE)
    os.truncate(path, 0)


def rename(path: Path) -> None:
    path.rename(path.with_name("auth.log.1"))


def rename_and_compress(path: Path) -> None:
    path.with_name("auth.log.1.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


def edit(path: Path) -> None:
    by_a_new_file(path, path.read_bytes() + MORE)


def delete(path: Path) -> None:
    path.unlink()


def lose_the_last_newline(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


HARMLESS = [
    copytruncate, copytruncate_and_compress, copytruncate_with_late_lines, rename, rename_and_compress, edit, delete,
    lose_the_last_newline,
]  # fmt: skip


@pytest.mark.parametrize("down", [False, True], ids=["running", "down"])
@pytest.mark.parametrize("begun", [b"", MORE], ids=["empty", "begun"])
@pytest.mark.parametrize("rotate", HARMLESS)
def test_rotation_is_no_loss(bench: Bench, log: Path, rotate: Callable[[Path], None], begun: bytes, down: bool) -> None:
    if down:
        bench.crash()
    rotate(log)
    if begun and not (down and rotate is delete):  # it may get the same inode: as good as emptied
        bench.write("auth.log", begun)
    assert found(bench) == []


def test_a_header_that_every_generation_has_is_no_part_of_the_last_one(bench: Bench) -> None:
    bench.source("*.log")
    header = b"# Fields: date time client-address method path status bytes referrer user-agent and more\n" * 3
    path = bench.write("web.log", header)
    bench.read()
    bench.write("web.log", LOG)
    bench.read()
    path.unlink()
    bench.write("web.log", header)
    assert found(bench) == []


def test_a_file_that_loses_lines_again_and_again_is_told_of_once_an_hour(bench: Bench, log: Path) -> None:
    for n in range(3):
        in_place(log, LOG[: 1000 * (n + 1)])
        found(bench)
        bench.write("auth.log", MORE)
        bench.read()
    assert len(bench.monitor.losses) == 1
    bench.pass_time(AGAIN_S)
    in_place(log, b"")
    assert len(found(bench)) == 2


def test_a_loss_while_the_database_is_away_is_told_of_when_it_is_back(bench: Bench, log: Path) -> None:
    bench.store.down = True
    in_place(log, b"")
    assert found(bench) == []
    bench.store.down = False
    assert len(found(bench)) == 1


def test_a_loss_that_was_noticed_outlives_a_kill_until_it_is_raised(bench: Bench, log: Path, tmp_path: Path) -> None:
    kept = str(tmp_path / "losses.noticed")
    bench.monitor.losses.keep_in(kept)
    log.write_bytes(b"".join(LINES[:190]))
    (told,) = found(bench)

    after = Noticed()  # of the engine that starts after the kill
    after.keep_in(kept)
    assert [(os.path.basename(each.path), each.read_bytes, each.left_bytes) for each in after] == [told]
    assert after.popleft().how == "cut at its end"

    nothing = Noticed()
    nothing.keep_in(kept)
    assert not nothing


def test_a_file_of_noticed_losses_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    for text in ("", "[{}]", "[1]", "{", '{"a": 1}', "\0"):
        (tmp_path / "kept").write_text(text)
        noticed = Noticed()
        noticed.keep_in(str(tmp_path / "kept"))
        assert not noticed


def test_removed_lines_are_an_incident_about_their_source(
    bench: Bench, log: Path, services: Any, viewer_client: Any
) -> None:
    in_place(log, WITHOUT["without lines in the middle"])
    found(bench)
    (loss,) = bench.monitor.losses
    services.store.put_api_source("auth", "auto")
    incident_id = services.background._upkeep.alerts.put(lines_removed(loss, 0))
    incident = services.store.incident(incident_id)
    assert incident.title == "lost lines that had been read", "a source attacks nobody"
    assert (incident.subject, incident.severity >= 8) == (("log.source", "source1"), True)
    assert {tag for member in incident.members.values() for tag in member.tags} >= {"attack.t1070.002"}
    (note,) = services.store.incident_notes(incident_id)
    assert note.text == (
        f"{log} was emptied or written anew: {len(LOG):,} bytes had been read from it, {loss.left_bytes:,} were left."
    )
    page = viewer_client.get(f"/incidents/{incident_id}").text
    assert "A file of source1 holds less than what was read from it" in page
    assert "Find out who was logged in" in page


def test_the_engine_raises_what_the_monitor_noticed_and_keeps_what_cannot_be_stored(services: Any) -> None:
    loss = LinesLost(services.store.put_api_source("auth", "auto"), "auth", "/var/log/auth.log", 900, 0, "emptied", 1e9)
    monitor = SimpleNamespace(losses=deque([loss]), statuses=list)
    engine = SimpleNamespace(monitor=monitor, processor=SimpleNamespace(state=SimpleNamespace(unavailable="busy")))
    alerts = services.background._upkeep.alerts
    put, refused = alerts.put, StoreUnavailable("locked")

    def refuse(_alert: object) -> int:
        raise refused

    alerts.put = refuse
    with pytest.raises(StoreUnavailable):
        services.background._keep_habits(engine)
    assert monitor.losses
    alerts.put = put
    services.background._keep_habits(engine)
    assert not monitor.losses
    (incident,) = services.store.incidents()
    assert incident.subject == ("log.source", "auth")


@pytest.mark.parametrize("n", [1, 40])
def test_a_log_begun_anew_with_lines_that_end_alike_has_lost_nothing(bench: Bench, n: int) -> None:
    agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Safari/537.36"

    def requests(hour: int, path: str) -> bytes:
        times = [f"[23/Nov/2026:{hour}:51:{i:02} +0000]" for i in range(n)]
        return "".join(f'192.0.2.7 - - {time} "GET {path} HTTP/1.1" 200 5 "-" "{agent}"\n' for time in times).encode()

    bench.source("*.log")
    path = bench.write("access.log", b"")
    for line in requests(10, "/").splitlines(keepends=True):
        bench.write("access.log", line)
        bench.read()
    path.unlink()
    bench.write("access.log", requests(11, "/index.html"))
    assert found(bench) == []
