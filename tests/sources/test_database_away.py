"""While the database takes nothing, files that come and go are held open, and read when it is back."""

from __future__ import annotations

import gzip
import os
import shutil

import pytest
from follow_bench import Bench


def generation(number: int, name: str = "app") -> bytes:
    return b"".join(b"%s generation %d, line %d\n" % (name.encode(), number, i) for i in range(20))


def numbers(lines: list[bytes]) -> list[bytes]:
    return sorted(set(lines))


@pytest.mark.parametrize("first", [b"", generation(0)], ids=["never seen", "followed"])
@pytest.mark.parametrize("pattern", ["app.log", "app.log*"])
@pytest.mark.parametrize("inotify", [False, True], ids=["polling", "inotify"])
def test_generations_that_live_only_while_the_database_is_away_are_stored(
    make_bench, inotify: bool, pattern: str, first: bytes
) -> None:
    bench = make_bench(use_inotify=inotify)
    bench.source(pattern)
    if first:
        bench.write("app.log", first)
    bench.read()
    bench.store.down = True
    written = first
    for number in range(1, 5):
        (bench.root / "app.log").unlink(missing_ok=True)
        bench.write("app.log", generation(number))
        written += generation(number)
        bench.scan()
    bench.store.down = False
    assert first.splitlines() + bench.read() == written.splitlines()
    assert bench.store.refused == []
    bench.crash()
    assert bench.read() == []


def test_a_file_begun_empty_and_deleted_while_the_database_is_away_is_stored(bench: Bench) -> None:
    bench.source("*.log")
    bench.store.down = True
    path = bench.write("app.log", b"")
    bench.scan()
    bench.write("app.log", generation(1))
    path.unlink()
    bench.scan()
    bench.store.down = False
    assert bench.read() == generation(1).splitlines()


def test_every_way_of_rotation_while_the_database_is_away(bench: Bench) -> None:
    bench.source("app.log*")
    path = bench.write("app.log", generation(0))
    bench.read()
    bench.store.down = True
    bench.write("app.log", b"the rest of generation 0\n")
    bench.scan()
    path.rename(bench.root / "app.log.1")
    bench.write("app.log", generation(1))
    bench.scan()
    (bench.root / "app.log.1").unlink()
    shutil.copyfile(path, bench.root / "app.log.1")
    bench.scan()
    os.truncate(path, 0)
    bench.write("app.log", generation(2))
    bench.scan()
    (bench.root / "app.log.1").unlink()
    path.rename(bench.root / "app.log.1")
    bench.write("app.log", generation(3))
    bench.scan()
    with gzip.open(bench.root / "app.log.1.gz", "wb") as file:
        file.write(generation(2))
    (bench.root / "app.log.1").unlink()
    bench.scan()
    bench.store.down = False
    lines = bench.read()
    lines += bench.read()
    wanted = b"the rest of generation 0\n" + b"".join(generation(n) for n in (1, 2, 3))
    assert sorted(lines) == sorted(wanted.splitlines())
    assert bench.store.refused == []


def test_the_copy_that_a_truncation_leaves_is_held_although_no_pattern_names_it(bench: Bench) -> None:
    bench.source("app.log")
    path = bench.write("app.log", generation(0))
    bench.read()
    bench.write("app.log", generation(1))
    shutil.copyfile(path, bench.root / "app.log.1")
    os.truncate(path, 0)
    bench.write("app.log", generation(2))
    bench.store.down = True
    bench.scan()
    (bench.root / "app.log.1").unlink()
    bench.scan()
    bench.store.down = False
    assert sorted(bench.read() + bench.read()) == sorted((generation(1) + generation(2)).splitlines())


def test_the_targets_of_a_link_swapped_while_the_database_is_away_are_read(bench: Bench) -> None:
    bench.store.down = True
    bench.swap_links(map(generation, range(4)))
    bench.store.down = False
    assert bench.read() == b"".join(map(generation, range(4))).splitlines()


def test_while_the_queue_is_full_new_files_are_opened_all_the_same(bench: Bench) -> None:
    bench.source("*.log")
    bench.write("full.log", generation(0, "full"))
    bench.capacity = 0
    bench.scan()
    for number in range(3):
        path = bench.write("app.log", generation(number))
        bench.scan()
        path.unlink()
        bench.scan()
    bench.capacity = None
    assert sorted(bench.read()) == sorted((generation(0, "full") + b"".join(map(generation, range(3)))).splitlines())


def test_a_known_file_with_new_lines_is_opened_before_its_turn_comes(make_bench) -> None:
    bench = make_bench()
    bench.source("*.log")
    for name in ("a.log", "b.log"):
        bench.write(name, generation(0, name))
    bench.read()
    bench.crash()
    bench.write("a.log", generation(1, "a"))
    path = bench.write("b.log", generation(1, "b"))
    bench.capacity = 0
    bench.scan()
    path.unlink()
    bench.scan()
    bench.capacity = None
    assert sorted(bench.read()) == sorted((generation(1, "a") + generation(1, "b")).splitlines())


def test_files_beyond_the_limit_of_open_files_are_told_of_and_the_others_kept(make_bench) -> None:
    bench = make_bench(max_open=4)
    bench.source("*.log")
    bench.read()
    bench.store.down = True
    before = bench.open_descriptors()
    for number in range(7):
        bench.write(f"{number}.log", generation(number))
    bench.scan()
    assert bench.open_descriptors() - before == 4
    (warning,) = [w for w in bench.monitor.statuses()[0].warnings if "open" in w]
    assert warning.startswith("3 new files wait")
    for number in range(7):
        (bench.root / f"{number}.log").unlink()
    bench.store.down = False
    held = bench.read()
    assert len(held) == 80
    assert len(set(held)) == 80
    assert not any("wait" in w for w in bench.monitor.statuses()[0].warnings)
    bench.pass_time(3600)
    bench.scan()
    bench.scan()
    assert bench.open_descriptors() == before


def test_what_could_not_be_booked_between_two_looks_is_tried_again_soon(make_bench) -> None:
    bench = make_bench(use_inotify=True)
    bench.source("*.log", polling_interval=3600.0)
    bench.write("a.log", generation(0, "a"))
    bench.read()
    bench.store.down = True
    bench.write("b.log", generation(0, "b"))
    bench.monitor.step(1.0)
    (bench.root / "b.log").unlink()
    bench.monitor.step(1.0)
    bench.store.down = False
    bench.pass_time(0.5)
    bench.monitor.step(0.0)
    assert [entry.content for entry in bench.queue] == [generation(0, "b")]


def test_the_database_is_asked_once_a_look_while_it_is_away(bench: Bench) -> None:
    bench.source("*.log")
    bench.read()
    bench.store.down = True
    for number in range(50):
        bench.write(f"{number}.log", generation(number))
    bench.store.calls.clear()
    bench.scan()
    assert len(bench.store.calls) == 1
    bench.store.down = False
    assert len(bench.read()) == 1000


def test_a_file_emptied_written_and_deleted_while_the_database_is_away_is_stored(bench: Bench) -> None:
    bench.source("app.log*")
    path = bench.write("app.log", generation(1))
    bench.scan()  # read, not stored
    bench.store.down = True
    bench.scan()
    shutil.copyfile(path, path.with_name("app.log.1"))
    os.truncate(path, 0)
    less = b"".join(generation(2).splitlines(keepends=True)[:3])
    bench.write("app.log", less)
    bench.scan()
    path.unlink()
    bench.scan()
    bench.store.down = False
    bench.commit()
    bench.read()
    assert sorted(bench.store.lines + bench.read()) == sorted((generation(1) + less).splitlines())
