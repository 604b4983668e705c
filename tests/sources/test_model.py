"""The model test: whatever is done to log files in whatever order, each line is stored exactly once.

Hypothesis makes up programs of writes, rotations, crashes and looks; the real monitor runs on a real folder. Lines are
unique. THREATLENS_MODEL_EXAMPLES=5000 makes the run long, and its programs other ones each time.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from follow_bench import Bench
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from threatlens.sources.losses import GRACE_S
from threatlens.sources.table import TELLING_BYTES

NAMES = ("app.log", "web.log")


class Writer:
    """A program that logs to one file, and its log rotation."""

    def __init__(self, root: Path, name: str) -> None:
        self.path = root / name
        self.generation = 0
        self.expected: dict[int, list[bytes]] = {0: []}
        self.partial = b""  # the rest of a line that was begun
        self.seen = False  # the present generation was looked at
        self.known = False  # a line of the present generation is stored
        self.append = True
        self.offset = 0
        self.old: dict[Path, int] = {}  # rotated files that are not compressed: generation

    def put(self, data: bytes) -> None:
        if self.append:
            with self.path.open("ab") as file:
                file.write(data)
        else:
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT)
            os.pwrite(fd, data, self.offset)
            os.close(fd)
        self.offset += len(data)

    def finish(self) -> None:
        rest, self.partial = self.partial, b""
        if rest:
            self.put(rest)

    def next_generation(self) -> None:
        self.generation += 1
        self.expected[self.generation] = []
        self.seen = self.known = False

    def shift(self) -> None:
        """Rename .1 to .2 and so on, as logrotate does."""
        have = {}
        for path in self.path.parent.iterdir():
            rest = path.name.removeprefix(self.path.name + ".")
            number = rest.removesuffix(".gz")
            if rest != path.name and number.isdigit():
                have[int(number)] = path
        for number in sorted(have, reverse=True):
            path = have[number]
            suffix = ".gz" if path.suffix == ".gz" else ""
            target = self.path.with_name(f"{self.path.name}.{number + 1}{suffix}")
            path.rename(target)
            if path in self.old:
                self.old[target] = self.old.pop(path)


class Logs(RuleBasedStateMachine):
    @initialize(
        everything=st.booleans(), inotify=st.booleans(), max_open=st.sampled_from([1, 2, 50]), short=st.booleans()
    )
    def begin(self, everything: bool, inotify: bool, max_open: int, short: bool) -> None:
        self.folder = Path(os.path.realpath(tempfile.mkdtemp(prefix="model-")))
        root = self.folder / "logs"
        root.mkdir()
        self.targets = self.folder / "targets"
        self.targets.mkdir()
        self.everything = everything
        self.short = short
        self.max_open = max_open
        self.lines_removed = max_open <= 2  # files that are not open may give their inodes to others
        self.bench = Bench(root, use_inotify=inotify, max_open=max_open, salvage_folder=str(self.folder / "salvage"))
        self.bench.source("*.log*" if everything else "*.log", roots=(str(root), str(self.targets)))
        self.writers = [Writer(root, name) for name in NAMES]
        self.link = Writer(root, "link.log")
        self.link.path = self.targets / "link.0"
        self.link_to = root / "link.log"
        self.counter = 0
        self.deleted = False
        self.saved: set[int] = set()  # by an editor, and not looked at since

    def line(self, writer: Writer) -> bytes:
        self.counter += 1
        text = b"%d" % self.counter
        if not self.short:
            text = b"generation %d of %s line %d" % (writer.generation, writer.path.name.encode(), self.counter)
            text += b" " + b"x" * (self.counter * 37 % 90)
        writer.expected[writer.generation].append(text)
        return text + b"\n"

    def drain(self) -> None:
        for writer in (*self.writers, self.link):
            writer.finish()
        for _ in range(3):
            self.look()
        self.commit(1000)

    def look(self) -> None:
        self.bench.scan()
        self.saved.clear()
        for writer in (*self.writers, self.link):
            writer.seen = writer.path.exists() and writer.path.stat().st_size > 0

    def note_stored(self) -> None:
        stored = set(self.bench.store.lines)
        for writer in (*self.writers, self.link):
            writer.known = any(line in stored for line in writer.expected[writer.generation])

    def may_rotate(self, writer: Writer) -> bool:
        """Where the pattern does not name rotated files, a generation nobody has seen could not be found."""
        return writer.path.exists() and (self.everything or writer.known)

    def stored_bytes(self, writer: Writer) -> int:
        """Of the present generation."""
        stored = set(self.bench.store.lines)
        return sum(len(line) + 1 for line in writer.expected[writer.generation] if line in stored)

    which = st.integers(0, len(NAMES) - 1)

    @rule(which=which, n=st.integers(1, 5))
    def write(self, which: int, n: int) -> None:
        writer = self.writers[which]
        writer.finish()
        writer.put(b"".join(self.line(writer) for _ in range(n)))

    @rule(which=which, share=st.sampled_from([0.0, 0.3, 0.6, 1.0]))
    def write_part_of_a_line(self, which: int, share: float) -> None:
        writer = self.writers[which]
        writer.finish()
        line = self.line(writer)
        cut = min(len(line) - 1, max(1, int(len(line) * share)))
        writer.put(line[:cut])
        writer.partial = line[cut:]

    @rule(which=which)
    def finish_the_line(self, which: int) -> None:
        self.writers[which].finish()

    @rule()
    def scan(self) -> None:
        self.look()

    @rule(n=st.sampled_from([1, 2, 1000]))
    def commit(self, n: int) -> None:
        if not self.bench.store.down:
            self.bench.commit(min(n, len(self.bench.queue)))
            self.note_stored()

    @rule()
    def crash(self) -> None:
        self.lines_removed |= self.deleted
        if self.bench.store.down:
            self.look()  # what is deleted between two looks is in no copy
        self.bench.crash()

    @precondition(lambda self: self.max_open > 2)
    @rule(away=st.booleans())
    def database_goes_away_or_comes_back(self, away: bool) -> None:
        self.look()
        self.bench.store.down = away
        self.look()

    @rule(capacity=st.integers(0, 2))
    def scan_with_a_full_queue(self, capacity: int) -> None:
        self.bench.capacity = len(self.bench.queue) + capacity
        self.bench.scan()
        self.bench.capacity = None

    @rule()
    def scan_while_the_database_is_away(self) -> None:
        down, self.bench.store.down = self.bench.store.down, True
        self.bench.scan()
        self.bench.store.down = down

    @rule(which=which, late=st.integers(0, 2), gap=st.booleans())
    def rename(self, which: int, late: int, gap: bool) -> None:
        writer = self.writers[which]
        if not self.may_rotate(writer):
            return
        writer.shift()
        rotated = writer.path.with_name(writer.path.name + ".1")
        writer.path.rename(rotated)
        present, writer.path = writer.path, rotated
        writer.finish()
        for _ in range(late):
            writer.put(self.line(writer))
        writer.path = present
        writer.old[rotated] = writer.generation
        writer.next_generation()
        writer.append = True
        if not gap:
            writer.put(self.line(writer))

    @rule(which=which)
    def write_late(self, which: int) -> None:
        writer = self.writers[which]
        for path, generation in writer.old.items():
            present = writer.generation
            writer.generation = generation
            with path.open("ab") as file:
                file.write(self.line(writer))
            writer.generation = present
            return

    @rule(which=which, midway=st.booleans())
    def compress(self, which: int, midway: bool) -> None:
        writer = self.writers[which]
        if not writer.old:
            return
        path = next(iter(writer.old))
        data = gzip.compress(path.read_bytes())
        target = path.with_name(path.name + ".gz")
        if midway:
            target.write_bytes(data[: len(data) // 2])
            self.look()
            with target.open("ab") as file:
                file.write(data[len(data) // 2 :])
            self.look()
        else:
            part = self.targets / "part"
            part.write_bytes(data)
            part.rename(target)
        path.unlink()
        del writer.old[path]

    @rule(
        which=which,
        between=st.sampled_from(["nothing", "look", "read more"]),
        sparse=st.booleans(),
        n=st.integers(0, 9),
    )
    def copytruncate(self, which: int, between: str, sparse: bool, n: int) -> None:
        writer = self.writers[which]
        if not self.may_rotate(writer) or not writer.path.stat().st_size:
            return
        if which in self.saved and self.stored_bytes(writer) < TELLING_BYTES:
            return  # the copy may get the inode of the file before: docs/following.md, where it ends
        if between == "read more" and self.bench.store.down:
            between = "look"
        writer.finish()
        writer.shift()
        rotated = writer.path.with_name(writer.path.name + ".1")
        shutil.copyfile(writer.path, rotated)
        if between == "look":
            self.look()
        elif between == "read more":  # what is written now is in no copy: it has to be stored before the truncation
            writer.put(self.line(writer))
            self.drain()
        os.truncate(writer.path, 0)
        writer.next_generation()
        if sparse:
            writer.append = False
        else:
            writer.offset = 0
            if not writer.append:
                writer.append = True
        if n:
            writer.put(b"".join(self.line(writer) for _ in range(n)))

    @rule(which=which, n=st.integers(0, 9), edit=st.booleans())
    def truncate(self, which: int, n: int, edit: bool) -> None:
        writer = self.writers[which]
        if not writer.path.exists() or self.bench.store.down:
            return
        self.drain()
        self.lines_removed = True
        size = writer.path.stat().st_size
        os.truncate(writer.path, 0)
        writer.next_generation()
        writer.append = True
        while n:
            writer.put(b"".join(self.line(writer) for _ in range(n)))
            if not edit or writer.path.stat().st_size >= size:
                break

    @rule(which=which, stored=st.booleans())
    def delete(self, which: int, stored: bool) -> None:
        writer = self.writers[which]
        if not writer.path.exists():
            return
        stored |= self.max_open <= 2  # a file that is closed is gone
        if stored:
            self.drain()
        else:
            writer.finish()
            self.look()
        self.deleted = True
        writer.path.unlink()
        if not stored:
            self.look()
        writer.next_generation()
        writer.append = True

    @rule(which=which)
    def save_with_an_editor(self, which: int) -> None:
        """A new file takes the name; it has the old content and one more line."""
        writer = self.writers[which]
        if not self.may_rotate(writer) or not writer.append:
            return
        writer.finish()
        if not writer.known and not self.everything:
            return
        twin = self.targets / "twin"
        twin.write_bytes(writer.path.read_bytes() + self.line(writer))
        twin.rename(writer.path)
        self.saved.add(which)

    @rule(n=st.integers(1, 3))
    def write_through_the_link(self, n: int) -> None:
        self.link.put(b"".join(self.line(self.link) for _ in range(n)))
        if not self.link_to.is_symlink():
            self.link_to.symlink_to(self.link.path)

    @rule(late=st.integers(0, 2))
    def swap_the_link(self, late: int) -> None:
        if not self.link_to.is_symlink() or not (self.link.known or (self.link.seen and self.max_open > 2)):
            return
        old, generation = self.link.path, self.link.generation
        self.link.next_generation()
        self.link.path = self.targets / f"link.{self.link.generation}"
        self.link.put(self.line(self.link))
        swap = self.folder / "swap"
        swap.symlink_to(self.link.path)
        swap.rename(self.link_to)
        present = self.link.generation
        self.link.generation = generation
        with old.open("ab") as file:
            file.write(b"".join(self.line(self.link) for _ in range(late)))
        self.link.generation = present

    @precondition(lambda self: self.short)
    @rule()
    def pass_some_time(self) -> None:
        self.bench.pass_time(1.0)

    def teardown(self) -> None:
        if not hasattr(self, "bench"):
            return
        try:
            self.bench.store.down = False
            for _ in range(3):
                self.drain()
            stored = Counter(self.bench.store.lines)
            assert [line for line, n in stored.items() if n > 1] == [], "stored twice"
            for writer in (*self.writers, self.link):
                for generation, lines in writer.expected.items():
                    wanted = set(lines)
                    assert [line for line in self.bench.store.lines if line in wanted] == lines, (
                        writer.path.name,
                        generation,
                    )
            assert len(stored) == self.counter
            assert self.bench.store.refused == []
            self.bench.pass_time(GRACE_S)
            self.bench.scan()
            assert self.lines_removed or not self.bench.monitor.losses
            assert all(s.state in {"flowing", "missing"} for s in self.bench.monitor.statuses())
        finally:
            self.bench.monitor.close()
            with contextlib.suppress(OSError):
                shutil.rmtree(self.folder)


Logs.TestCase.settings = settings(
    max_examples=int(os.environ.get("THREATLENS_MODEL_EXAMPLES", "120")),
    stateful_step_count=int(os.environ.get("THREATLENS_MODEL_STEPS", "30")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)


class TestLogs(Logs.TestCase):  # type: ignore[name-defined,misc]
    """Equality with the model."""
