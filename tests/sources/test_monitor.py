"""The monitor as a whole: sources that come and go, back pressure, the database away, waking up, few descriptors."""

from __future__ import annotations

import os
import threading
from dataclasses import replace

import pytest
from follow_bench import Bench

from threatlens.event import LogEntry
from threatlens.sources import file as file_module
from threatlens.sources.file import LogFileMonitor
from threatlens.sources.follower import Follower
from threatlens.sources.stream import CHUNK_BYTES


def test_a_written_line_wakes_the_monitor_without_polling(make_bench) -> None:
    bench = make_bench(use_inotify=True)
    bench.write("app.log", b"old\n")
    config = bench.source("*.log", polling_interval=3600.0)
    got: list[bytes] = []
    arrived = threading.Condition()

    def emit(entry: LogEntry) -> bool:
        with arrived:
            got.append(entry.content)
            arrived.notify()
        return True

    monitor = LogFileMonitor(emit=emit, book=bench.store)
    monitor.set_sources([config])
    thread = threading.Thread(target=monitor.run)
    thread.start()
    try:
        with arrived:
            assert arrived.wait_for(lambda: got == [b"old\n"], 60)
        bench.write("app.log", b"new\n")
        with arrived:
            assert arrived.wait_for(lambda: got == [b"old\n", b"new\n"], 60)
        bench.write("later.log", b"other\n")
        with arrived:
            assert arrived.wait_for(lambda: got[-1] == b"other\n", 60)
    finally:
        monitor.stop()
        thread.join(60)
        monitor.close()
    assert not thread.is_alive()


def test_start_at_end_skips_what_was_there_but_not_what_comes(bench: Bench) -> None:
    bench.write("old.log", b"one\ntwo\nhalf")
    bench.source("*.log", start_at="end")
    assert bench.read() == []
    bench.write("old.log", b" done\n")
    bench.write("new.log", b"from the start\n")
    assert sorted(bench.read()) == [b"from the start", b"half done"]
    bench.crash()
    bench.write("late.log", b"made while down\n")
    assert bench.read() == [b"made while down"]


def test_start_at_end_knows_its_file_before_anything_is_stored(bench: Bench) -> None:
    path = bench.write("app.log", b"".join(b"old line number %d\n" % i for i in range(100)))
    bench.source("app.log*", start_at="end")
    bench.scan()
    bench.crash()
    path.write_bytes(b"".join(b"new line number %d\n" % i for i in range(200)))
    assert len(bench.read()) == 200


def test_a_removed_source_is_let_go_and_goes_on_where_it_was(bench: Bench) -> None:
    config = bench.source("app.log")
    bench.write("app.log", b"one\n")
    bench.read()
    before = bench.open_descriptors()
    bench.monitor.set_sources([])
    bench.write("app.log", b"two\n")
    assert bench.read() == []
    assert bench.monitor.statuses() == []
    assert bench.open_descriptors() < before
    bench.monitor.set_sources([replace(config, enabled=False)])
    assert bench.read() == []
    assert bench.state() == "disabled"
    bench.monitor.set_sources([config])
    assert bench.read() == [b"two"]


def test_a_changed_source_repeats_nothing(bench: Bench) -> None:
    config = bench.source("*.log")
    bench.write("a.log", b"a\n")
    bench.scan()  # read, not stored yet
    bench.monitor.set_sources([replace(config, path=str(bench.root / "?.log"), priority=1)])
    bench.write("b.log", b"b\n")
    bench.read()
    assert sorted(bench.store.lines) == [b"a", b"b"]
    assert bench.store.refused == []


def test_a_full_queue_stops_reading_and_loses_nothing(bench: Bench) -> None:
    bench.source("*.log")
    data = b"".join(b"line %d\n" % i for i in range(100_000))
    bench.write("app.log", data)
    bench.capacity = 3
    for _ in range(len(data) // CHUNK_BYTES + 3):
        bench.scan()
        bench.commit()
    assert bench.store.lines == data.splitlines()


def test_while_the_queue_is_full_the_source_is_waiting(bench: Bench) -> None:
    bench.write("app.log", b"one\n")
    config = bench.source("*.log")
    inside, go_on = threading.Event(), threading.Event()

    def emit(_: LogEntry) -> bool:
        inside.set()
        return go_on.wait(60)

    monitor = LogFileMonitor(emit=emit, book=bench.store, clock=bench.clock, use_inotify=False)
    monitor.set_sources([config])
    thread = threading.Thread(target=monitor.scan)
    thread.start()
    assert inside.wait(60)
    bench.pass_time(1)
    states = [s.state for s in monitor.statuses()]
    go_on.set()
    thread.join(60)
    assert states == ["waiting"]
    assert [s.state for s in monitor.statuses()] == ["flowing"]
    monitor.close()


def test_a_huge_file_delays_no_other_and_urgent_sources_come_first(bench: Bench) -> None:
    bench.source("huge.log", priority=5)
    bench.source("small.log", priority=5)
    bench.source("urgent.log", priority=1)
    bench.write("huge.log", b"".join(b"huge line number %d\n" % i for i in range(600_000)))
    bench.write("small.log", b"small\n")
    bench.write("urgent.log", b"urgent\n")
    bench.scan()
    order = [entry.source_name for entry in bench.queue]
    assert order[0] == "source3"
    assert order.index("source2") <= (4 << 20) // CHUNK_BYTES + 2
    assert len(order) > (8 << 20) // CHUNK_BYTES
    bench.commit()
    assert len(bench.store.lines) == 600_002


def test_a_refused_commit_is_read_again_from_the_committed_position(bench: Bench) -> None:
    bench.source("app.log")
    bench.write("app.log", b"one\n")
    bench.scan()
    bench.write("app.log", b"two\n")
    bench.scan()
    del bench.queue[0]  # as if its batch had been rolled back for good
    bench.commit()
    assert len(bench.store.refused) == 1
    assert bench.read() == [b"one", b"two"]


def test_a_stream_that_the_book_forgot_is_read_as_new(bench: Bench) -> None:
    bench.source("app.log")
    bench.write("app.log", b"one\n")
    bench.read()
    bench.store.rows.clear()
    bench.monitor.reset_stream(1)
    assert bench.read() == [b"one"]


def test_without_the_database_everything_waits_as_it_was(bench: Bench) -> None:
    bench.source("*.log*")
    bench.store.down = True
    bench.write("app.log", b"".join(b"line %d\n" % i for i in range(50)))
    assert bench.read() == []
    bench.store.down = False
    assert len(bench.read()) == 50
    bench.store.down = True
    os.rename(bench.root / "app.log", bench.root / "app.log.1")
    bench.write("app.log", b"next\n")
    bench.read()
    assert any("database" in w for w in bench.monitor.statuses()[0].warnings)
    bench.store.down = False
    bench.read()
    assert bench.store.lines[50:] == [b"next"]
    assert not any("database" in w for w in bench.monitor.statuses()[0].warnings)


def test_an_unforeseen_error_stays_with_its_source(bench: Bench, monkeypatch, caplog) -> None:
    bench.source("bad.log")
    bench.source("good.log")
    bench.write("bad.log", b"bad\n")
    bench.write("good.log", b"good\n")
    listings = file_module.listings

    def fail(config):
        if config.source_name == "source1":
            raise RuntimeError("boom")
        return listings(config)

    monkeypatch.setattr(file_module, "listings", fail)
    assert bench.read() == [b"good"]
    first, second = bench.monitor.statuses()
    assert (first.state, second.state) == ("error", "flowing")
    assert "boom" in first.reason
    assert "RuntimeError" in caplog.text
    monkeypatch.undo()
    assert bench.read() == [b"bad"]
    assert bench.state() == "flowing"


def test_g9_many_files_need_few_descriptors(make_bench) -> None:
    bench = make_bench(max_open=8)
    bench.source("*.log*")
    before = bench.open_descriptors()
    for round_number in range(3):
        for i in range(100):
            bench.write(f"app{i}.log", b"round %d line of file %d\n" % (round_number, i))
        bench.read()
        assert bench.open_descriptors() <= before + 8
    for i in range(100):
        os.rename(bench.root / f"app{i}.log", bench.root / f"app{i}.log.1")
        bench.write(f"app{i}.log.1", b"late line of %d\n" % i)
        bench.write(f"app{i}.log", b"next generation of %d\n" % i)
    bench.read()
    assert len(bench.store.lines) == len(set(bench.store.lines)) == 500


def test_running_out_of_descriptors_is_survived_with_one_warning(bench: Bench, monkeypatch, caplog) -> None:
    bench.source("*.log")
    for i in range(20):
        bench.write(f"app{i}.log", b"line of %d\n" % i)
    real_open, failures = os.open, []

    def scarce(path, flags, *args, **kwargs):
        if str(path).endswith(".log") and len(failures) < 5 and "dir_fd" in kwargs:
            failures.append(path)
            raise OSError(24, "Too many open files", path)
        return real_open(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", scarce)
    bench.read()
    bench.read()
    assert len(bench.store.lines) == 20
    assert len([r for r in caplog.records if "too many open files" in r.message]) == 1


def test_progress_of_a_source_is_told(bench: Bench) -> None:
    bench.source("*.log")
    data = b"a line of twenty byte\n" * 500_000
    bench.write("app.log", data)
    bench.capacity = 10
    bench.scan()
    status = bench.monitor.statuses()[0]
    assert status.state == "reading"
    assert (status.files, status.bytes_total) == (1, len(data))
    assert 0 < status.bytes_read < len(data)
    assert status.last_read_us > 0


@pytest.mark.parametrize("recursive", [False, True])
def test_a_folder_with_a_pattern(bench: Bench, recursive: bool) -> None:
    bench.source("", file_pattern="*.log", recursive=recursive)
    bench.write("a.log", b"a\n")
    bench.write("b.txt", b"b\n")
    bench.write(".hidden.log", b"hidden\n")
    bench.write("deep/er/c.log", b"c\n")
    assert sorted(bench.read()) == ([b"a", b"c"] if recursive else [b"a"])


def test_globs_over_folders(bench: Bench) -> None:
    bench.source("*/log/**/x*.log")
    bench.write("a/log/x1.log", b"1\n")
    bench.write("b/log/deep/x2.log", b"2\n")
    bench.write("b/other/x3.log", b"3\n")
    assert sorted(bench.read()) == [b"1", b"2"]
    bench.write("c/log/new/x4.log", b"4\n")
    assert bench.read() == [b"4"]


def test_g4_a_file_renamed_out_of_the_pattern_at_once_is_read(make_bench) -> None:
    bench = make_bench(use_inotify=True)
    bench.source("*.log", polling_interval=3600.0)
    bench.scan()
    for i in range(200):
        path = bench.write(f"job{i}.log", b"line of job %d\n" % i)
        path.rename(f"{path}.done")
    bench.monitor.step(0)
    bench.commit()
    assert len(bench.store.lines) == 200
    assert bench.monitor.statuses()[0].vanished == 0  # nobody is told that they were gone


def rotate(bench: Bench, content: bytes) -> None:
    """Name the files on as logrotate does, and begin app.log anew."""
    rotated = sorted(bench.root.glob("app.log.*"), key=lambda path: int(path.suffix[1:]), reverse=True)
    for path in rotated:
        path.rename(path.with_suffix(f".{int(path.suffix[1:]) + 1}"))
    (bench.root / "app.log").rename(bench.root / "app.log.1")
    bench.write("app.log", content)


@pytest.mark.parametrize("unstored", [0, 1, 2])
@pytest.mark.parametrize("rotations", [1, 2, 3])
def test_a_file_of_which_nothing_was_stored_hides_no_generation_after_it(
    bench: Bench, unstored: int, rotations: int
) -> None:
    bench.source("*.log")
    written = [b"generation %d" % number for number in range(1 + unstored + rotations)]
    lines = iter(written)
    bench.write("app.log", next(lines) + b"\n")
    bench.read()
    for _ in range(unstored):
        rotate(bench, next(lines) + b"\n")
        bench.scan()
    bench.crash()
    for _ in range(rotations):
        rotate(bench, next(lines) + b"\n")
    bench.read()
    assert sorted(bench.store.lines) == written


@pytest.mark.parametrize("rotations", [1, 2, 5])
def test_generations_that_came_and_went_before_a_look_are_found_outside_the_pattern(make_bench, rotations: int) -> None:
    bench = make_bench(use_inotify=True)
    bench.source("*.log", polling_interval=3600.0)
    written = [b"generation %d" % number for number in range(1 + rotations)]
    bench.write("app.log", written[0] + b"\n")
    bench.read()
    for line in written[1:]:
        rotate(bench, line + b"\n")
    (bench.root / "folder").mkdir()
    bench.monitor.step(0)
    bench.commit()
    assert sorted(bench.store.lines) == written


def test_generations_made_while_down_are_found_outside_the_pattern(bench: Bench) -> None:
    bench.source("*.log")
    path = bench.write("app.log", b"first generation, read\n")
    bench.read()
    bench.crash()
    bench.write("app.log", b"first generation, unread\n")
    path.rename(f"{path}.2")
    bench.write("app.log.1", b"second generation, never seen under its name\n")
    bench.write("app.log", b"third generation\n")
    bench.write("app.log.notes", b"not a generation\n")
    assert sorted(bench.read()) == [
        b"first generation, unread",
        b"second generation, never seen under its name",
        b"third generation",
    ]


def test_an_old_link_target_is_finished_after_a_restart(bench: Bench) -> None:
    first = bench.write("targets/1", b"one\n")
    bench.source("current.log")
    (bench.root / "current.log").symlink_to(first)
    bench.read()
    bench.crash()
    bench.write("targets/1", b"rest of one\n")
    second = bench.write("targets/2", b"two\n")
    (bench.root / "current.log").unlink()
    (bench.root / "current.log").symlink_to(second)
    assert sorted(bench.read()) == [b"rest of one", b"two"]
    bench.write("targets/1", b"late\n")
    assert bench.read() == [b"late"]


def test_a_file_that_lives_only_while_many_known_files_are_found_again_is_read(
    make_bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(use_inotify=True)
    bench.source("*.log", polling_interval=3600.0)
    for name in "abcd":
        bench.write(f"{name}.log", name.encode() + b"\n")
    bench.read()
    bench.crash()
    found, seen = Follower.found, []

    def slowly(follower: Follower, source: object, shown: str, *rest: object) -> bool:
        seen.append(shown)
        bench.pass_time(1.0)
        if len(seen) == 1:
            bench.write("short.log", b"short\n")
        elif len(seen) == 4:
            (bench.root / "short.log").unlink()
        return found(follower, source, shown, *rest)

    monkeypatch.setattr(Follower, "found", slowly)
    bench.monitor.step(0)
    bench.commit()
    assert bench.store.lines[4:] == [b"short"]


def test_a_file_that_lives_only_during_a_long_look_is_read(make_bench) -> None:
    bench = make_bench(use_inotify=True)
    bench.source("*.log", polling_interval=3600.0)
    for name in "abcd":
        bench.write(f"{name}.log", name.encode() + b"\n")
    create, seen = bench.store.create, []

    def slowly(*args: object, **more: object) -> int:
        seen.append(more["path"])
        bench.pass_time(1.0)
        if len(seen) == 1:
            bench.write("short.log", b"short\n")
        elif len(seen) == 3:
            (bench.root / "short.log").unlink()
        return create(*args, **more)

    bench.store.create = slowly
    bench.monitor.step(0)
    bench.commit()
    assert sorted(bench.store.lines) == [b"a", b"b", b"c", b"d", b"short"]
