"""Every way in which logs are rotated, while the monitor runs and while it does not."""

from __future__ import annotations

import gzip
import os
import shutil

import pytest
from follow_bench import Bench

FIRST = b"".join(b"first generation, line %d of the file\n" % i for i in range(20))
REST = b"".join(b"first generation, unread rest %d\n" % i for i in range(20))
SECOND = b"".join(b"second generation, line %d\n" % i for i in range(10))


def lines(*parts: bytes) -> list[bytes]:
    return b"".join(parts).splitlines()


def rename(bench: Bench) -> None:
    os.rename(bench.root / "app.log", bench.root / "app.log.1")
    bench.write("app.log", SECOND)


def copytruncate(bench: Bench) -> None:
    shutil.copyfile(bench.root / "app.log", bench.root / "app.log.1")
    os.truncate(bench.root / "app.log", 0)
    bench.write("app.log", SECOND)


def compress(bench: Bench) -> None:
    with gzip.open(bench.root / "app.log.1.gz", "wb") as file:
        file.write((bench.root / "app.log").read_bytes())
    os.unlink(bench.root / "app.log")
    bench.write("app.log", SECOND)


def rename_then_compress(bench: Bench) -> None:
    os.rename(bench.root / "app.log", bench.root / "app.log.1")
    bench.write("app.log", SECOND)
    bench.scan()
    with gzip.open(bench.root / "app.log.1.gz", "wb") as file:
        file.write((bench.root / "app.log.1").read_bytes())
    bench.scan()
    os.unlink(bench.root / "app.log.1")


def copytruncate_to_the_same_size(bench: Bench) -> None:
    shutil.copyfile(bench.root / "app.log", bench.root / "app.log.1")
    size = os.path.getsize(bench.root / "app.log")
    text = SECOND + b"x" * (size - len(SECOND) - 1) + b"\n"
    (bench.root / "app.log").write_bytes(text)


@pytest.mark.parametrize("pattern", ["app.log*", "app.log"])
@pytest.mark.parametrize("down", [False, True], ids=["running", "down"])
@pytest.mark.parametrize(
    "rotate", [rename, copytruncate, compress, rename_then_compress, copytruncate_to_the_same_size]
)
def test_rotation_loses_and_repeats_nothing(bench: Bench, rotate, down: bool, pattern: str) -> None:
    bench.source(pattern)
    bench.write("app.log", FIRST)
    assert bench.read() == lines(FIRST)
    bench.write("app.log", REST)
    if down:
        bench.crash()
        if rotate is rename_then_compress:
            bench.scan = lambda: None  # type: ignore[method-assign]
    rotate(bench)
    if "scan" in vars(bench):
        del bench.scan
    bench.scan()
    bench.scan()
    bench.commit()
    expected = lines(FIRST, REST, SECOND)
    assert [line for line in bench.store.lines if not line.startswith(b"xx")] == expected
    assert bench.read() == []
    bench.crash()
    assert bench.read() == []


def test_a_deleted_file_is_read_to_its_end_and_the_next_of_its_name_from_its_start(bench: Bench) -> None:
    bench.source("app.log")
    bench.write("app.log", FIRST)
    bench.read()
    bench.write("app.log", REST)
    os.unlink(bench.root / "app.log")
    bench.write("app.log", SECOND)
    assert bench.read() == lines(REST, SECOND)
    bench.crash()
    assert bench.read() == []


@pytest.mark.parametrize("down", [False, True], ids=["running", "down"])
def test_a_link_to_another_file_is_followed_and_the_old_target_read_to_its_end(bench: Bench, down: bool) -> None:
    bench.source("current.log")
    for name, text in (("1.dat", FIRST), ("2.dat", SECOND)):
        (bench.root / name).write_bytes(text)
    link = bench.root / "current.log"
    link.symlink_to("1.dat")
    bench.read()
    if down:
        bench.crash()
    (bench.root / "swap").symlink_to("2.dat")
    (bench.root / "swap").rename(link)
    bench.write("1.dat", REST)  # its writer has not noticed yet
    assert sorted(bench.read() + bench.read()) == sorted(lines(REST, SECOND))


@pytest.mark.parametrize("down", [False, True], ids=["running", "down"])
@pytest.mark.parametrize("rotate", [rename, rename_then_compress])
def test_a_line_begun_before_a_rotation_and_finished_behind_it_is_one_line(bench: Bench, rotate, down: bool) -> None:
    bench.source("app.log*")
    bench.write("app.log", FIRST + b"one half,")
    assert bench.read() == lines(FIRST)
    if down:
        bench.crash()
    os.rename(bench.root / "app.log", bench.root / "app.log.1")
    bench.write("app.log", SECOND)
    if not down:
        bench.scan()
    bench.write("app.log.1", b" the other half\n")
    if rotate is rename_then_compress:
        (bench.root / "app.log.1.gz").write_bytes(gzip.compress((bench.root / "app.log.1").read_bytes()))
        os.unlink(bench.root / "app.log.1")
    bench.read()
    bench.read()
    assert sorted(bench.store.lines) == sorted(lines(FIRST, b"one half, the other half\n", SECOND))


def rename_all(bench: Bench, upto: int) -> None:
    for number in range(upto, 0, -1):
        os.rename(bench.root / f"app.log.{number}", bench.root / f"app.log.{number + 1}")
    os.rename(bench.root / "app.log", bench.root / "app.log.1")
    bench.write("app.log", b"the newest line\n")


def rotated(bench: Bench, generations: int) -> None:
    bench.source("app.log*")
    for number in range(1, generations + 1):
        bench.write(f"app.log.{number}", b"one line of generation %d\n" % number)
    bench.write("app.log", b"the line before\n")
    bench.read()


@pytest.mark.parametrize("down", [False, True], ids=["running", "down"])
def test_a_rotation_that_renames_many_files_is_booked_in_one_transaction(bench: Bench, down: bool) -> None:
    rotated(bench, 30)
    if down:
        bench.crash()
    bench.store.calls.clear()
    rename_all(bench, 30)
    assert bench.read() == [b"the newest line"]
    assert (bench.store.calls.count("rename"), bench.store.calls.count("rebind")) == (1, 0)
    paths = {os.path.basename(os.fsdecode(row.path)) for row in bench.store.rows.values()}
    assert paths == {"app.log", *(f"app.log.{number}" for number in range(1, 32))}


def test_names_that_a_kill_kept_from_being_booked_cost_and_repeat_nothing(bench: Bench, monkeypatch) -> None:
    rotated(bench, 5)
    with monkeypatch.context() as patched:
        patched.setattr(bench.store, "rename", lambda _: bench.store._call("rename"))
        rename_all(bench, 5)
        bench.write("app.log.1", b"a late line\n")
        bench.scan()  # read, but neither the names nor the lines are stored
    bench.crash()
    assert sorted(bench.read()) == [b"a late line", b"the newest line"]
    bench.crash()
    assert bench.read() == []
    assert len(bench.store.lines) == len(set(bench.store.lines)) == 8


def test_a_file_that_began_with_a_hole_and_is_written_anew_before_it_was_read_loses_nothing(bench: Bench) -> None:
    bench.source("app.log")
    path = bench.root / "app.log"
    path.write_bytes(bytes(60) + b"after the hole\n")
    bench.capacity = 0
    bench.scan()
    path.write_bytes(b"written anew\n")
    bench.capacity = None
    assert bench.read() == [b"written anew"]
    bench.write("app.log", b"and on, beyond where the hole had ended before it was written anew\n")
    assert bench.read() == [b"and on, beyond where the hole had ended before it was written anew"]


def test_a_file_that_was_deleted_and_begun_anew_empty_is_read_as_soon_as_it_grows(make_bench) -> None:
    bench = make_bench(use_inotify=True)
    bench.source("app.log")
    path = bench.write("app.log", b"one\n")
    bench.read()
    path.unlink()
    path.touch()
    bench.monitor.step(0.0)  # what inotify says, and no look at the folder
    bench.write("app.log", b"two\n")
    bench.monitor.step(5.0)
    assert [entry.content for entry in bench.queue] == [b"two\n"]


@pytest.mark.parametrize("moved_on", [False, True], ids=["present", "former"])
def test_the_target_of_a_link_that_is_found_empty_is_read_as_soon_as_it_grows(make_bench, moved_on: bool) -> None:
    bench = make_bench(use_inotify=True)
    bench.swap_links([b"zero\n"])
    bench.read()
    link = bench.root / "link.log"
    first, second = (link.readlink().with_name(name) for name in ("first.dat", "second.dat"))
    for target in (first, second)[: 1 + moved_on]:
        target.touch()
        link.unlink()
        link.symlink_to(target)
        bench.monitor.step(0.0)  # what inotify says, and no look at the folder
    first.write_bytes(b"one\n")
    bench.monitor.step(5.0)
    assert [entry.content for entry in bench.queue] == [b"one\n"]


def test_a_second_copy_before_the_first_truncation_was_noticed_is_no_file_of_its_own(bench: Bench) -> None:
    """The second is written to between its copying and its truncation, and all of it is met in one look."""
    log, copy = bench.write("app.log", FIRST), bench.root / "app.log.1"
    bench.source("app.log*")
    shutil.copyfile(log, copy)
    bench.scan()
    os.truncate(log, 0)
    bench.write("app.log", SECOND)
    copy.rename(bench.root / "app.log.2")
    shutil.copyfile(log, copy)
    with log.open("ab") as file:
        file.write(REST)
    stored = bench.read()
    os.truncate(log, 0)
    bench.write("app.log", b"third generation\n")
    for _ in range(3):
        stored += bench.read()
    assert sorted(stored) == sorted(lines(FIRST, SECOND, REST, b"third generation\n"))


@pytest.mark.parametrize("pattern", ["app.log*", "app.log"])
def test_a_copy_with_the_inode_of_a_rotated_file_that_was_never_read_is_judged(bench: Bench, pattern: str) -> None:
    """Of it nothing was stored before the kill; after it, its inode belongs to a copy of the present file."""
    log, rotated = bench.write("app.log", FIRST), bench.root / "app.log.1"
    bench.source(pattern)
    bench.scan()
    log.rename(rotated)
    bench.write("app.log", SECOND)
    bench.scan()
    bench.crash()
    rotated.write_bytes(log.read_bytes())  # the copy, with the inode of the first
    stored = bench.read()
    os.truncate(log, 0)
    bench.write("app.log", REST)
    for _ in range(3):
        stored += bench.read()
    assert sorted(stored) == sorted(lines(SECOND, REST))


def test_what_carries_on_a_closed_file_is_found_though_another_got_its_inode(make_bench) -> None:
    """Saved by an editor and renamed out of the pattern within one look; a link's target has the inode of before."""
    bench = make_bench(max_open=1)
    log, saved, target = bench.write("app.log", FIRST), bench.root / "app.log.1", bench.root / "target.0"
    bench.write("web.log", SECOND)
    bench.source("*.log")
    assert sorted(bench.read()) == sorted(lines(FIRST, SECOND))
    log.rename(target)
    target.write_bytes(b"through a link\n")
    (bench.root / "link.log").symlink_to(target)
    saved.write_bytes(FIRST + REST)
    log.write_bytes(b"third generation\n")

    stored = [line for _ in range(3) for line in bench.read()]
    assert sorted(stored) == sorted(lines(b"through a link\n", REST, b"third generation\n"))


def test_what_an_editor_saved_and_a_rotation_renamed_at_once_carries_on_the_file(make_bench, tmp_path) -> None:
    """inotify tells of the renaming before anybody has looked whether the file of before is still there."""
    bench = make_bench(use_inotify=True)
    log, saved = bench.write("app.log", FIRST), tmp_path / "saved"
    bench.source("*.log")
    assert bench.read() == lines(FIRST)
    saved.write_bytes(FIRST + REST)
    saved.rename(log)
    log.rename(bench.root / "app.log.1")
    log.write_bytes(SECOND)

    stored = [line for _ in range(3) for line in bench.read()]
    assert sorted(stored) == sorted(lines(REST, SECOND))


@pytest.mark.parametrize("is_open", [True, False])
def test_a_copy_is_compared_with_what_carries_on_a_file_that_was_just_found_replaced(
    bench: Bench, is_open: bool
) -> None:
    """While nobody looked: renamed out of the pattern and written on, begun anew in place, and its beginning copied."""
    log = bench.write("app.log", FIRST)
    bench.source("*.log")
    assert bench.read() == lines(FIRST)
    if not is_open:
        bench.crash()
    bench.write("app-before.log", FIRST)
    (bench.root / "app.log.1").write_bytes(FIRST + REST)
    log.write_bytes(SECOND)

    stored = [line for _ in range(3) for line in bench.read()]
    assert sorted(stored) == sorted(lines(REST, SECOND))
