"""What is not stored of a deleted file outlives a kill, is stored once, and leaves nothing behind."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from follow_bench import Bench

from threatlens.sources import rescue, salvage
from threatlens.sources.paths import family


def generation(number: int, lines: int = 20) -> bytes:
    return b"".join(b"generation %d, line %d of app\n" % (number, i) for i in range(lines))


@pytest.fixture
def bench(make_bench: Callable[..., Bench], tmp_path: Path) -> Bench:
    return make_bench(salvage_folder=str(tmp_path / "salvage"))


@pytest.fixture
def left(tmp_path: Path) -> Callable[[], list[str]]:
    def names() -> list[str]:
        folder = tmp_path / "salvage"
        return sorted(os.listdir(folder)) if folder.exists() else []

    return names


def settle(bench: Bench) -> list[bytes]:
    """Everything that is there, until nothing comes any more."""
    lines = bench.read()
    for _ in range(4):
        lines += bench.read()
    return lines


def test_a_deleted_file_that_is_not_stored_yet_outlives_a_kill(bench: Bench, left) -> None:
    bench.source("app.log")
    bench.write("app.log", generation(0))
    bench.read()
    path = bench.write("app.log", generation(1))
    bench.scan()
    path.unlink()
    bench.scan()
    assert left()
    bench.crash()
    assert settle(bench) == generation(1).splitlines()
    assert bench.store.refused == []
    assert left() == []


def test_a_file_deleted_while_the_database_is_away_outlives_any_number_of_kills(bench: Bench, left) -> None:
    bench.source("app.log")
    bench.store.down = True
    written = b""
    for number in range(3):
        path = bench.write("app.log", generation(number))
        bench.scan()
        path.unlink()
        bench.scan()
        written += generation(number)
        bench.crash()
        bench.scan()
    bench.crash()
    bench.write("app.log", generation(9))
    bench.store.down = False
    assert sorted(settle(bench)) == sorted((written + generation(9)).splitlines())
    assert left() == []


def test_a_followed_file_deleted_and_begun_anew_again_and_again_loses_nothing_to_kills(bench: Bench, left) -> None:
    bench.source("app.log*")
    path = bench.write("app.log", generation(0))
    bench.read()
    written = generation(0)
    for number in range(1, 6):
        bench.store.down = number % 2 == 1
        bench.write("app.log", generation(number))
        bench.scan()
        path.unlink()
        bench.scan()
        bench.crash()
        bench.write("app.log", generation(100 + number))
        bench.scan()
        written += generation(number) + generation(100 + number)
    bench.store.down = False
    settle(bench)
    assert sorted(bench.store.lines) == sorted(written.splitlines())
    assert left() == []


def test_the_targets_of_a_link_swapped_while_the_database_is_away_outlive_a_kill(bench: Bench, left) -> None:
    bench.store.down = True
    bench.swap_links(map(generation, range(4)))
    bench.scan()
    bench.crash()
    bench.store.down = False
    assert sorted(settle(bench)) == sorted(b"".join(map(generation, range(4))).splitlines())
    assert left() == []


def test_a_file_renamed_within_the_pattern_while_the_database_is_away_is_not_copied(bench: Bench, left) -> None:
    bench.source("app.log*")
    bench.store.down = True
    path = bench.write("app.log", generation(0))
    bench.scan()
    path.rename(bench.root / "app.log.1")
    bench.scan()
    assert left() == []
    bench.crash()
    bench.store.down = False
    assert settle(bench) == generation(0).splitlines()


@pytest.mark.parametrize("lines", [1, 40], ids=["short", "long"])
def test_a_file_saved_by_an_editor_and_deleted_while_the_database_is_away_is_stored_once(
    bench: Bench, left, tmp_path: Path, lines: int
) -> None:
    bench.source("app.log")
    bench.store.down = True
    path = bench.write("app.log", generation(0, lines))
    bench.scan()
    (tmp_path / "saved").write_bytes(generation(0, lines) + b"and one more\n")
    (tmp_path / "saved").rename(path)
    bench.scan()
    path.unlink()
    bench.scan()
    bench.crash()
    bench.store.down = False
    assert settle(bench) == [*generation(0, lines).splitlines(), b"and one more"]
    bench.pass_time(100)
    assert settle(bench) == []
    assert left() == []


@pytest.mark.parametrize("whole", [0, 1 << 20], ids=["with a hole", "whole"])
def test_a_file_of_which_a_part_is_stored_and_that_is_packed_then_is_stored_once(
    bench: Bench, left, monkeypatch: pytest.MonkeyPatch, whole: int
) -> None:
    monkeypatch.setattr(rescue, "WHOLE_BYTES", whole)
    bench.source("app.log*")
    path = bench.write("app.log", generation(0, 200))
    bench.read()
    bench.write("app.log", generation(1, 200))
    bench.scan()
    rotated = path.rename(bench.root / "app.log.1")
    bench.scan()
    rotated.unlink()
    bench.scan()  # before the packed one is noticed
    assert left()
    with gzip.open(bench.root / "app.log.1.gz", "wb") as file:
        file.write(generation(0, 200) + generation(1, 200))
    bench.crash()
    assert settle(bench) == generation(1, 200).splitlines()
    bench.pass_time(100)
    assert settle(bench) == []
    assert left() == []


def test_the_target_of_a_link_that_moved_on_is_read_to_its_end_while_it_is_still_there(bench: Bench, left) -> None:
    bench.store.down = True
    bench.swap_links([generation(0), generation(1)])
    bench.scan()
    assert left()
    bench.crash()
    with (bench.root.parent / "targets" / "0.dat").open("ab") as late:
        late.write(b"written late\n")
    bench.scan()
    bench.store.down = False
    assert sorted(settle(bench)) == sorted((generation(0) + b"written late\n" + generation(1)).splitlines())
    assert left() == []


def point_to(bench: Bench, name: str, content: bytes) -> None:
    """Let the link of `swap_links` point to a new file."""
    target = bench.root.parent / "targets" / name
    target.write_bytes(content)
    (bench.root / "link.log").unlink()
    (bench.root / "link.log").symlink_to(target)


def test_the_target_of_a_link_that_moves_on_after_a_kill_is_stored(bench: Bench, left) -> None:
    bench.store.down = True
    bench.swap_links([generation(0)])
    bench.scan()  # the place of what waits for the database is noted
    bench.crash()
    point_to(bench, "other.dat", generation(1))
    bench.scan()
    bench.crash()
    bench.store.down = False
    assert sorted(settle(bench)) == sorted((generation(0) + generation(1)).splitlines())
    assert bench.store.refused == []
    assert left() == []


def test_the_noted_target_of_a_link_is_stored_although_the_one_before_is_looked_for(bench: Bench, left) -> None:
    bench.swap_links([generation(0)])
    bench.store.down = True
    point_to(bench, "0.dat.1", generation(1))
    bench.scan()
    bench.crash()
    point_to(bench, "2.dat", generation(2))
    bench.store.down = False
    assert sorted(settle(bench)) == sorted(b"".join(map(generation, range(3))).splitlines())
    assert left() == []


def test_a_noted_target_that_is_deleted_after_a_kill_leaves_nothing(bench: Bench, left) -> None:
    bench.store.down = True
    bench.swap_links([generation(0)])
    bench.scan()
    bench.crash()
    point_to(bench, "other.dat", generation(1))
    (bench.root.parent / "targets" / "0.dat").unlink()
    bench.store.down = False
    assert settle(bench) == generation(1).splitlines()
    assert left() == []


def test_the_target_of_a_link_is_stored_although_its_inode_was_that_of_another_sources_deleted_file(
    bench: Bench, left
) -> None:
    bench.store.down = True
    bench.swap_links([generation(0), generation(1)])
    bench.scan()
    bench.crash()
    bench.store.down = False
    bench.source("gone.log")
    bench.write("gone.log", generation(2))
    bench.configs.reverse()
    bench.monitor.set_sources(bench.configs[:1])
    bench.read()
    (bench.root / "gone.log").unlink()
    status = (bench.root.parent / "targets" / "0.dat").stat()
    bench.store.rows[1] = replace(bench.store.rows[1], device=status.st_dev, inode=status.st_ino)
    bench.configs.reverse()
    bench.crash()
    bench.store.down = True
    bench.scan()
    bench.scan()
    bench.store.down = False
    settle(bench)
    assert sorted(bench.store.lines) == sorted(b"".join(map(generation, range(3))).splitlines())
    assert left() == []


def test_what_is_left_of_a_copied_file_outlives_a_second_kill_at_once(bench: Bench, left) -> None:
    bench.store.down = True
    bench.swap_links([generation(0), generation(1)])
    bench.scan()
    for _ in range(3):
        bench.crash()
        bench.scan()
    bench.crash()
    bench.store.down = False
    assert sorted(settle(bench)) == sorted((generation(0) + generation(1)).splitlines())
    assert left() == []


def test_a_copy_that_somebody_deletes_is_no_lasting_error(bench: Bench, left, tmp_path: Path) -> None:
    bench.source("app.log")
    path = bench.write("app.log", generation(0))
    bench.scan()
    path.unlink()
    bench.scan()
    bench.crash()
    for name in left():
        if not name.endswith(".json"):
            (tmp_path / "salvage" / name).unlink()
    bench.write("app.log", generation(1))
    assert settle(bench) == generation(1).splitlines()
    assert left() == []
    assert bench.monitor.statuses()[0].state == "flowing"


@pytest.mark.parametrize("lines", [1, 40], ids=["short", "long"])
def test_the_copy_of_a_target_that_turns_out_to_be_booked_is_no_second_file(bench: Bench, left, lines: int) -> None:
    bench.swap_links([generation(0, lines)])
    bench.store.down = True
    bench.crash()
    bench.scan()
    point_to(bench, "other.dat", generation(1, lines))
    bench.scan()
    assert left()
    bench.crash()
    bench.store.down = False
    assert sorted(settle(bench)) == sorted((generation(0, lines) + generation(1, lines)).splitlines())
    assert left() == []


@pytest.mark.parametrize("lines", [1, 40], ids=["short", "long"])
def test_the_copy_of_a_file_that_was_packed_meanwhile_is_no_second_file(bench: Bench, left, lines: int) -> None:
    bench.source("app.log*")
    bench.store.down = True
    path = bench.write("app.log.1", generation(0, lines))
    bench.scan()
    with gzip.open(bench.root / "app.log.1.gz", "wb") as file:
        file.write(generation(0, lines))
    path.unlink()
    bench.scan()
    assert left()
    bench.crash()
    bench.store.down = False
    assert settle(bench) == generation(0, lines).splitlines()
    bench.pass_time(100)
    assert settle(bench) == []
    assert left() == []


def test_a_file_found_as_a_relative_first_and_deleted_while_the_database_is_away_is_stored(bench: Bench) -> None:
    config = bench.source("*.log")
    bench.read()
    bench.store.down = True
    bench.write("web.log", generation(0))
    bench.scan()
    path = bench.write("app.log", generation(1))
    follower = bench.monitor._follower
    follower.search_siblings(bench.monitor._sources[config.source_id], str(bench.root), {family("app.log")})
    bench.scan()
    path.unlink()
    bench.scan()
    bench.store.down = False
    assert sorted(settle(bench)) == sorted((generation(0) + generation(1)).splitlines())


def test_what_is_stored_of_a_large_deleted_file_is_not_copied(
    bench: Bench, left, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescue, "WHOLE_BYTES", 0)
    bench.source("app.log")
    path = bench.write("app.log", generation(0, 50_000))
    bench.read()
    path.unlink()
    bench.read()
    assert left() == []
    path = bench.write("app.log", generation(1, 50_000))
    bench.read()
    bench.write("app.log", generation(2))
    path.unlink()
    bench.scan()
    copy = next(tmp_path / "salvage" / name for name in left() if not name.endswith(".json"))
    assert copy.stat().st_size > 1_000_000
    assert copy.stat().st_blocks * 512 < 100_000
    bench.crash()
    assert settle(bench) == generation(2).splitlines()


def test_lines_written_to_a_deleted_file_are_added_to_its_copy(bench: Bench, left) -> None:
    bench.source("app.log")
    path = bench.write("app.log", generation(0))
    with path.open("ab", buffering=0) as writer:
        bench.scan()
        path.unlink()
        bench.scan()
        writer.write(generation(1))
        bench.scan()
    bench.crash()
    assert settle(bench) == (generation(0) + generation(1)).splitlines()
    assert left() == []


def test_a_copy_that_was_being_added_to_ends_where_its_note_says(bench: Bench, left, tmp_path: Path) -> None:
    bench.source("app.log")
    path = bench.write("app.log", generation(0))
    bench.scan()
    path.unlink()
    bench.scan()
    copy = next(tmp_path / "salvage" / name for name in left() if not name.endswith(".json"))
    with copy.open("ab") as file:
        file.write(b"half of a li")
    (tmp_path / "salvage" / "1-2-3").write_bytes(b"a copy without a note\n")
    (tmp_path / "salvage" / "4-5-6.json").write_bytes(b"{}")
    (tmp_path / "salvage" / "7-8-9.json.part").write_bytes(b"{")
    bench.crash()
    assert settle(bench) == generation(0).splitlines()
    bench.pass_time(100)
    assert settle(bench) == []
    assert left() == []


def test_a_deleted_gzip_file_outlives_a_kill(bench: Bench, left) -> None:
    bench.source("app.log*")
    path = bench.root / "app.log.1.gz"
    with gzip.open(path, "wb") as file:
        file.write(generation(0))
    bench.scan()
    path.unlink()
    bench.scan()
    bench.crash()
    assert settle(bench) == generation(0).splitlines()
    assert left() == []


def test_a_last_line_without_an_end_is_kept_until_it_is_stored(bench: Bench, left) -> None:
    bench.source("app.log")
    path = bench.write("app.log", b"a line\nand no end")
    bench.read()
    path.unlink()
    bench.read()
    bench.crash()
    assert settle(bench) == []
    assert left()
    bench.pass_time(100)
    assert settle(bench) == [b"and no end"]
    assert left() == []


def test_a_source_taken_away_and_given_back_reads_its_deleted_file(bench: Bench, left) -> None:
    config = bench.source("app.log")
    path = bench.write("app.log", generation(0))
    bench.scan()
    path.unlink()
    bench.scan()
    bench.queue.clear()
    bench.monitor.set_sources([])
    bench.scan()
    assert left()
    bench.write("app.log", generation(1))  # perhaps under the inode of the deleted one
    bench.monitor.set_sources([config])
    bench.monitor.reset_stream(1)
    assert sorted(settle(bench)) == sorted((generation(0) + generation(1)).splitlines())
    assert left() == []


def test_a_few_lines_are_copied_to_a_disk_that_is_nearly_full_too(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = os.statvfs(bench.root)
    values = [*real[:4], (2 << 20) // real.f_frsize, *real[5:]]
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(values))
    bench.source("*.log")
    few, many = generation(0), generation(1, lines=10_000)
    paths = [bench.write("few.log", few), bench.write("many.log", many)]
    bench.scan()
    for path in paths:
        path.unlink()
    bench.scan()
    bench.crash()
    assert settle(bench) == few.splitlines()
    assert [record.getMessage() for record in caplog.records] == [
        f"the unread lines of {paths[1]}, which is deleted, are in memory only: the disk is nearly full"
    ]


@pytest.mark.parametrize("is_followed", [True, False])
def test_a_file_deleted_while_there_is_no_room_at_all_is_copied_once_there_is(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_followed: bool
) -> None:
    """A disk that somebody else has filled, before the reserve is given up: the kill comes later."""
    real, free = os.statvfs(bench.root), [100 << 10]
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result([*real[:4], free[0] // real.f_frsize, *real[5:]]))
    bench.source("*.log")
    if not is_followed:
        bench.store.down = True
    path = bench.write("app.log", generation(0))
    bench.scan()
    path.unlink()
    for _ in range(3):
        bench.scan()
    free[0] = 4 << 20
    bench.scan()
    bench.crash()
    bench.store.down = False
    assert settle(bench) == generation(0).splitlines()
    assert len([record for record in caplog.records if "in memory only" in record.getMessage()]) == 1


def test_room_for_a_few_lines_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, free = os.statvfs(tmp_path), [100 << 10]
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result([*real[:4], free[0] // real.f_frsize, *real[5:]]))
    file = tmp_path / "app.log"
    file.write_bytes(generation(0))
    fd, size = os.open(file, os.O_RDONLY), file.stat().st_size
    kept = salvage.Salvage(str(tmp_path / "salvage"), make_room=lambda: free.append(free.pop() + (4 << 20)))
    key = (1, 2)
    kept.keep(key, fd, [(0, size)], salvage.Copy(1, str(file), str(file), False, *key, size=size))
    os.close(fd)
    assert (key in kept, kept.owed()) == (True, [])


def test_a_deleted_file_with_the_inode_of_one_that_was_copied_before_is_copied_from_its_beginning(
    tmp_path: Path,
) -> None:
    kept, key = salvage.Salvage(str(tmp_path / "salvage")), (1, 2)
    contents = [b"a line of the first file\n" * 3, generation(1), generation(1) + generation(2)]
    for number, content in enumerate(contents):
        file = tmp_path / f"app.log.{number}"
        file.write_bytes(content)
        with file.open("rb") as opened:
            described = salvage.Copy(1, str(file), str(file), False, *key, size=len(content))
            kept.keep(key, opened.fileno(), [(0, len(content))], described)
    copies = [path.read_bytes() for path in (tmp_path / "salvage").iterdir() if path.suffix != ".json"]
    assert copies == [contents[-1]]  # and what was added to the second was added to its copy
    kept.closed(key)
    assert list((tmp_path / "salvage").iterdir()) == []


def test_more_than_may_be_copied_is_told_once_and_harms_nothing(
    make_bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(salvage, "_LEFT_BYTES", 1 << 62)
    monkeypatch.setattr(salvage, "_SMALL_BYTES", 0)
    bench = make_bench(salvage_folder=str(tmp_path / "salvage"))
    bench.source("app.log")
    path = bench.write("app.log", generation(0))
    bench.scan()
    path.unlink()
    for _ in range(3):
        bench.scan()
    assert [record.getMessage() for record in caplog.records] == [
        f"the unread lines of {path}, which is deleted, are in memory only: the disk is nearly full"
    ]
    assert settle(bench) == generation(0).splitlines()
