"""What a power cut leaves: everything that was not fsynced is gone, again and again, while lines come and are stored.

A library that is loaded before all others (power.c, compiled with gcc) keeps of every file of the data folder what was
fsynced, and which names were durable. At a random moment all processes are killed and the folder is put back to that.
Logs are on another disk here: what matters is that none of their lines is lost or stored twice, that what was
acknowledged is there, and that every start succeeds.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import datetime as dt
import os
import random
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator

from benchmarks.product import ROOT, Product, free_port, wait_for, workshop
from benchmarks.table import Table

FILES, LINES_PER_SECOND = 3, 300
#: The index of the write-ahead log is made anew by every first connection; it holds nothing.
FLEETING = ("threatlens.db-shm",)


def compiled(folder: str, name: str = "power") -> str:
    """A library to be loaded before all others; raises FileNotFoundError without gcc."""
    path = os.path.join(folder, f"{name}.so")
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", path, source, "-ldl", "-lpthread"], check=True)
    return path


class Disk:
    """The disk under a data folder, which forgets what was not fsynced."""

    def __init__(self, data: str, library: str) -> None:
        self.data = os.path.realpath(data)
        self._library = library
        self._base = self.data + ".base"
        self._shadow = self.data + ".shadow"
        self._there: dict[str, str] = {}  # path -> key of the files that there were when the power came
        self.power_on()

    def power_on(self) -> None:
        """What is in the folder now is durable."""
        for folder in (self._base, self._shadow):
            shutil.rmtree(folder, ignore_errors=True)
            os.makedirs(folder, mode=0o700)
        self._there = {path: key_of(path) for path in files_of(self.data)}
        for path, key in self._there.items():
            shutil.copyfile(path, os.path.join(self._base, key))

    @property
    def env(self) -> dict[str, str]:
        """What a process on this disk is started with."""
        return {
            "LD_PRELOAD": self._library, "POWER_FOLDER": self.data, "POWER_SHADOW": self._shadow,
            "POWER_BASE": self._base,
        }  # fmt: skip

    def cut(self) -> None:
        """Put the folder back to what is durable; every process must have ended."""
        names = self._names()
        made = self.data + ".made"
        shutil.rmtree(made, ignore_errors=True)
        for folder, _, _ in os.walk(self.data):
            os.makedirs(made + folder.removeprefix(self.data), mode=0o700, exist_ok=True)
        for path, key in names.items():
            if os.path.basename(path) in FLEETING:
                continue
            source = self._content(key)
            target = made + path.removeprefix(self.data)
            os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
            if source:
                shutil.copyfile(source, target)
            else:
                open(target, "wb").close()  # the name was durable, the content was not
            os.chmod(target, 0o600)
        shutil.rmtree(self.data)
        os.rename(made, self.data)
        self.power_on()

    def _names(self) -> dict[str, str]:
        """Path -> key of the files whose names are durable."""
        names = dict(self._there)
        folder = ""
        with contextlib.suppress(FileNotFoundError), open(os.path.join(self._shadow, "names")) as said:
            for line in said:
                kind, _, rest = line.rstrip("\n").partition(" ")
                if kind == "D":
                    folder = rest
                    names = {path: key for path, key in names.items() if os.path.dirname(path) != folder}
                    continue
                path, _, key = rest.rpartition(" ")
                if not path.endswith(" (deleted)"):
                    names[path] = key
        return names

    def _content(self, key: str) -> str:
        """Where that is which is durable of this file; "": nothing is."""
        kept = (os.path.join(folder, key) for folder in (self._shadow, self._base))
        return next(filter(os.path.exists, kept), "")


def key_of(path: str) -> str:
    """Which file this is, as power.c names it: its inode, which others get after it, and its birth."""
    about = ctypes.create_string_buffer(256)  # struct statx
    if ctypes.CDLL(None, use_errno=True).statx(-100, os.fsencode(path), 0x100, 0x900, about):
        raise OSError(ctypes.get_errno(), "statx", path)
    (inode,) = struct.unpack_from("=Q", about, 32)
    seconds, nanoseconds = struct.unpack_from("=qI", about, 80)
    return f"{inode}-{seconds}.{nanoseconds}"


def files_of(folder: str) -> Iterator[str]:
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            if os.path.isfile(path) and not os.path.islink(path):
                yield path


class Writer:
    """Writes numbered lines to some files until it is closed, and rotates them now and then."""

    def __init__(self, folder: str, dice: random.Random, per_second: int = LINES_PER_SECOND) -> None:
        self.written = 0
        self._per_second = per_second
        self._folder = folder
        self._dice = dice
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _write(self) -> None:
        files = [open(os.path.join(self._folder, f"{number}.log"), "a") for number in range(FILES)]  # noqa: SIM115
        while not self._ended.wait(0.02):
            now = f"{dt.datetime.now(dt.UTC):%b %e %H:%M:%S}"
            for _ in range(self._per_second // 50):
                self.written += 1
                file = self._dice.choice(files)
                file.write(f"{now} web1 probe[7]: line {self.written}\n")
                file.flush()
            if self._dice.random() < 0.002:
                number = self._dice.randrange(FILES)
                path = os.path.join(self._folder, f"{number}.log")
                files[number].close()
                os.rename(path, f"{path}.{self.written}.log")
                files[number] = open(path, "a")  # noqa: SIM115
        for file in files:
            file.close()

    def close(self) -> int:
        """End; how many lines there are."""
        self._ended.set()
        self._thread.join()
        return self.written


def start(product: Product, disk: Disk) -> subprocess.Popen[bytes]:
    port = free_port()
    with open(os.path.join(product.folder, "server.log"), "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "threatlens", "serve"], cwd=ROOT, env=product.env(port, **disk.env), stdout=log,
            stderr=log, start_new_session=True,
        )  # fmt: skip


def kill(process: subprocess.Popen[bytes]) -> bool:
    """Whether it still ran."""
    ran = process.poll() is None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return ran


def acknowledged(product: Product, disk: Disk, name: str) -> bool:
    """Have a token made; whether that was said to be done. (The command ends with 0 once it is.)"""
    done = subprocess.run(
        [sys.executable, "-m", "threatlens", "token", "create", "--name", name, "--role", "viewer"],
        cwd=ROOT, env=product.env(**disk.env), capture_output=True, check=False,
    )  # fmt: skip
    return done.returncode == 0


def ask(product: Product, question: str) -> list[tuple[object, ...]]:
    """What the database answers. It may be in use: whoever could write would, as the last to close it, move the
    write-ahead log into the database, and the disk that forgets would not have seen it."""
    with contextlib.closing(sqlite3.connect(f"file:{product.database}?mode=ro", uri=True, timeout=10)) as connection:
        return connection.execute(question).fetchall()


def run(cuts: int, seed: int) -> bool:
    dice = random.Random(seed)
    with workshop() as folder:
        product = Product(folder)
        product.configure()
        disk = Disk(product.data, compiled(folder))
        writer = Writer(product.logs, random.Random(seed + 1))
        promised: set[str] = set()
        broken = ended = forgotten = 0
        stored: list[int] = []
        try:
            for number in range(cuts):
                process = start(product, disk)
                with contextlib.suppress(TimeoutError):  # some cuts strike before anything is stored
                    before = stored[-1] if stored else 0
                    wait_for("lines", lambda: count(product) > before, timeout_s=dice.choice((2, 20, 20)))  # noqa: B023
                if dice.random() < 0.3 and acknowledged(product, disk, f"cut-{number}"):
                    promised.add(f"cut-{number}")
                time.sleep(dice.random() * 3)
                ended += not kill(process)
                disk.cut()
                if os.path.exists(product.database):
                    broken += ask(product, "PRAGMA integrity_check") != [("ok",)]
                    stored.append(count(product))
                    forgotten += len(promised - {str(row[0]) for row in ask(product, "SELECT name FROM api_tokens")})
                    disk.power_on()
            lines = writer.close()
            process = start(product, disk)
            try:
                wait_for("the end", lambda: count(product) >= lines, timeout_s=120, every_s=0.5)
            except TimeoutError:
                pass
            finally:
                kill(process)
        finally:
            lines = writer.close()
        got = Counter(row[0] for row in ask(product, "SELECT raw FROM events WHERE raw LIKE '%probe[7]: line %'"))
    rows = [
        ("lines written", lines, True),
        ("of them lost", lines - len(got), lines == len(got)),
        ("of them stored twice", sum(n - 1 for n in got.values()), max(got.values(), default=0) == 1),
        ("databases that failed their integrity check", broken, not broken),
        ("servers that had ended before the cut", ended, not ended),
        ("of what was acknowledged, forgotten", forgotten, not forgotten),
        ("tokens acknowledged", len(promised), True),
    ]
    table = Table(f"After {cuts} power cuts", "what", "number", "verdict")
    for what, value, good in rows:
        table.add(what, f"{value:,}", "holds" if good else "missed")
    table.show()
    return all(good for *_, good in rows)


def count(product: Product) -> int:
    """Events that are stored; 0 while there is no table."""
    try:
        return int(str(ask(product, "SELECT count(*) FROM events WHERE raw LIKE '%probe[7]: line %'")[0][0]))
    except sqlite3.Error:
        return 0


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cuts", type=int, default=30)
    options.add_argument("--seed", type=int, default=1)
    arguments = options.parse_args()
    return 0 if run(arguments.cuts, arguments.seed) else 1


if __name__ == "__main__":
    sys.exit(main())
