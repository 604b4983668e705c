"""Bad days, one after the other: files that live for a moment, one that is huge, few descriptors, folders that go away,
stops and kills under load, backups and retention meanwhile.

Every trial writes numbered lines and counts from outside what became of them: none may be missing or stored twice.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import http.client
import os
import random
import re
import sqlite3
import stat
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

from benchmarks.power import Writer, ask, compiled, count
from benchmarks.product import Product, Web, wait_for, workshop
from benchmarks.table import Table

Row = tuple[str, str, bool]  # what, its value, whether it is as promised
START_S = 180.0  # a start on a machine that does other things
DRAIN_S = 600.0
HEALTHY_S, STATE_S, STOP_S = 1.0, 5.0, 10.0
MEMORY_MB, GROWTH_MB = 300, 50
LIMIT_GB = 0.02
LINE = re.compile(r"probe\[7\]: line (\d+)")


class Numbers:
    """Lines that can be told apart."""

    def __init__(self) -> None:
        self.written = 0

    def lines(self, n: int, padding: int = 0, at: dt.datetime | None = None) -> bytes:
        now = f"{at or dt.datetime.now(dt.UTC):%b %e %H:%M:%S}"
        made = range(self.written + 1, self.written + n + 1)
        self.written += n
        return "".join(f"{now} web1 probe[7]: line {number}{' x' * padding}\n" for number in made).encode()


def append(path: str, lines: bytes) -> None:
    with open(path, "ab", buffering=0) as file:
        file.write(lines)


def stored(product: Product) -> Counter[int]:
    rows = ask(product, "SELECT raw FROM events WHERE raw LIKE '%probe[7]: line %'")
    return Counter(int(found.group(1)) for row in rows if (found := LINE.search(str(row[0]))))


def settled(product: Product, lines: int) -> list[Row]:
    """Wait until that many are stored, or nothing comes any more; then what is missing and what is there twice."""
    last, since = -1, time.monotonic()
    while (now := count(product)) < lines and time.monotonic() - since < 60:
        if now != last:
            last, since = now, time.monotonic()
        time.sleep(0.5)
    got = stored(product)
    lost, twice = lines - len(got), sum(got.values()) - len(got)
    return [("lines written", f"{lines:,}", True), ("lost", f"{lost:,}", not lost), ("twice", f"{twice:,}", not twice)]


@contextlib.contextmanager
def running(product: Product, *, signed_in: bool = False) -> Iterator[Web]:
    web = product.start()
    try:
        web.wait_ready(START_S)
        if signed_in:
            web.token = product.command("token", "create", "--name", f"t{web.port}", "--role", "admin").strip()
        yield web
    finally:
        web.stop()


def short_lived(product: Product, scale: float) -> list[Row]:
    """Files that are made, written and renamed out of sight within 50 ms, 20 a second, in 20 folders."""
    product.configure(recursive=True)
    folders = [os.path.join(product.logs, f"{number}") for number in range(20)]
    for folder in folders:
        os.makedirs(folder)
    dice, numbers = random.Random(1), Numbers()
    with running(product, signed_in=True) as web:
        append(os.path.join(product.logs, "first.log"), numbers.lines(1))
        wait_for("the first line", lambda: count(product) == 1, timeout_s=START_S)
        files = int(2_000 * scale)
        for number in range(files):
            path = os.path.join(dice.choice(folders), f"{number}.log")
            append(path, numbers.lines(dice.randint(1, 50)))
            time.sleep(0.04)
            os.rename(path, path + ".done")
            time.sleep(0.01)
        rows = settled(product, numbers.written)
        seen = int(metrics(web).get('threatlens_source_vanished_files_total{source="bench"}', 0))
    lost = numbers.written - len(stored(product))
    share = 100 * lost / numbers.written
    return [
        (f"of {numbers.written:,} lines in {files:,} files lost", f"{lost:,}", share <= 0.1),
        rows[2],
        ("files counted as gone before they could be opened", f"{seen:,}", bool(seen) or not lost),
    ]


def huge_file(product: Product, scale: float) -> list[Row]:
    """A file of 2 GB appears at once; pages of supervisors answer, memory stays."""
    product.configure()
    numbers, made = Numbers(), os.path.join(product.folder, "made")
    with open(made, "wb") as file:
        while file.tell() < 2e9 * scale:
            file.write(numbers.lines(1_000, padding=2_000))
    slow, peak, ended = [0.0], [0, 0], threading.Event()  # seconds; bytes after a minute and at the most
    with running(product) as web:
        os.rename(made, os.path.join(product.logs, "huge.log"))
        begun = time.monotonic()

        def ask_how_it_is() -> None:
            while not ended.wait(0.2):
                asked = time.monotonic()
                with contextlib.closing(http.client.HTTPConnection("127.0.0.1", web.port, timeout=30)) as connection:
                    connection.request("GET", "/healthz")
                    if connection.getresponse().status != 200:
                        slow[0] = 99.0
                slow[0] = max(slow[0], time.monotonic() - asked)

        asking = threading.Thread(target=ask_how_it_is)
        asking.start()
        while (passed := time.monotonic() - begun) < DRAIN_S * scale and count(product) < numbers.written:
            peak[passed > 60] = max(peak[passed > 60], web.memory())
            time.sleep(1)
        ended.set()
        asking.join()
        read = count(product)
    most, grown = max(peak) / 1e6, max(0, peak[1] - peak[0]) / 1e6
    return [
        ("lines of 4 KB stored meanwhile", f"{read:,} of {numbers.written:,}", read > 0),
        ("slowest /healthz", f"{slow[0]:.2f} s", slow[0] < HEALTHY_S),
        ("memory of all processes at its peak", f"{most:.0f} MB", most <= MEMORY_MB),
        ("of that, added after the first minute", f"{grown:.0f} MB", grown <= GROWTH_MB),
    ]


def few_descriptors(product: Product, scale: float) -> list[Row]:
    """300 growing files in 30 folders for a process that may open 64 and watch 5 folders."""
    product.configure(recursive=True)
    numbers, dice = Numbers(), random.Random(2)
    paths = [os.path.join(product.logs, str(number % 30), f"{number}.log") for number in range(300)]
    for path in paths:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    narrow = ["unshare", "-Ur", "sh", "-c", 'echo 5 >/proc/sys/user/max_inotify_watches; ulimit -n 64; exec "$@"', "-"]
    web = product.start(narrow)
    try:
        web.wait_ready(START_S)
        until = time.monotonic() + 60 * scale
        while time.monotonic() < until:
            path = dice.choice(paths)
            append(path, numbers.lines(dice.randint(1, 20)))
            if dice.random() < 0.05:
                os.rename(path, f"{path}.{numbers.written}.log")
            time.sleep(0.01)
        rows = settled(product, numbers.written)
    finally:
        web.stop()
    with open(os.path.join(product.folder, "server.log"), encoding="utf-8", errors="replace") as log:
        warnings = sum('"WARNING"' in line or '"ERROR"' in line for line in log)
    return [*rows, ("warnings in the log", f"{warnings}", warnings <= 20)]


def coming_and_going(product: Product, scale: float) -> list[Row]:
    """A folder that goes and returns; a file that becomes a folder, a pipe, a device, and a file again."""
    folder = os.path.join(product.logs, "app")
    path, away = os.path.join(folder, "app.log"), os.path.join(product.folder, "away")
    os.makedirs(folder)
    product.configure(path=path, file_pattern=None)
    numbers, worst = Numbers(), 0.0

    def state_becomes(*wanted: str) -> None:
        nonlocal worst
        question = "SELECT state FROM log_sources WHERE source_name = 'bench'"
        worst = max(worst, wait_for(f"the state {wanted}", lambda: ask(product, question)[0][0] in wanted))

    def becomes_file() -> None:
        append(path, numbers.lines(20))
        wait_for("its lines", lambda: count(product) >= numbers.written)
        state_becomes("flowing")

    with running(product):
        becomes_file()
        os.rename(folder, away)
        append(os.path.join(away, "app.log"), numbers.lines(20))
        state_becomes("missing", "error")
        time.sleep(60 * scale)
        os.rename(away, folder)
        becomes_file()
        kinds: list[Callable[[], None]] = [lambda: os.mkdir(path), lambda: os.mkfifo(path)]
        if not os.getuid():
            kinds += [
                lambda: os.mknod(path, 0o600 | stat.S_IFSOCK),
                lambda: os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3)),
            ]
        for make in kinds:
            os.unlink(path)
            make()
            state_becomes("error", "refused", "missing", "no_permission")
            (os.rmdir if os.path.isdir(path) else os.unlink)(path)
            becomes_file()
        rows = settled(product, numbers.written)
    return [*rows, ("slowest change of the source's state", f"{worst:.1f} s", worst <= STATE_S)]


def stops(product: Product, scale: float) -> list[Row]:
    """SIGTERM under load, again and again."""
    product.configure()
    writer, dice, slowest, wrong = Writer(product.logs, random.Random(3)), random.Random(4), 0.0, 0
    times = int(50 * scale)
    try:
        for _ in range(times):
            web = product.start()
            web.wait_ready(START_S)
            time.sleep(dice.random() * 3)
            slowest = max(slowest, web.stop())
            wrong += web.exit_code != 0
    finally:
        lines = writer.close()
    with running(product):
        rows = settled(product, lines)
    return [
        *rows,
        (f"slowest of {times} stops", f"{slowest:.1f} s", slowest <= STOP_S),
        ("that did not end with 0", f"{wrong}", not wrong),
    ]


def restarts(product: Product, scale: float) -> list[Row]:
    """A start after a kill, with a million events and 200 files; the slowest of five."""
    product.configure()
    product.fill(int(1_000_000 * scale))
    numbers = Numbers()
    paths = [os.path.join(product.logs, f"{number}.log") for number in range(200)]
    for path in paths:
        append(path, numbers.lines(10))
    up = first = 0.0
    for number in range(6):
        append(paths[number], numbers.lines(1))
        begun = time.perf_counter()
        web = product.start(ready="/healthz")
        alive = web.wait_ready(START_S)
        wait_for("the new line", lambda: count_new(product, numbers.written), timeout_s=START_S)
        if number:  # the first start reads all the files
            up, first = max(up, alive), max(first, time.perf_counter() - begun)
        else:
            settled(product, numbers.written)
        web.kill()
    return [
        ("until /healthz answers", f"{up:.1f} s", up <= 3.0),
        ("until a line that was written meanwhile is stored", f"{first:.1f} s", first <= 5.0),
    ]


def count_new(product: Product, number: int) -> bool:
    """Whether that line is among the newest events."""
    question = "SELECT raw FROM events ORDER BY id DESC LIMIT 300"
    with contextlib.suppress(sqlite3.Error):
        return any(str(row[0]).rstrip().endswith(f"line {number}") for row in ask(product, question))
    return False


def backups(product: Product, scale: float) -> list[Row]:
    """A backup every ten seconds while lines come, files rotate and kills strike; the last but one is restored."""
    product.configure()
    writer = Writer(product.logs, random.Random(5))
    made: list[str] = []
    try:
        web = product.start()
        for number in range(max(2, int(6 * scale))):
            web.wait_ready(START_S)
            time.sleep(10 * scale)
            made.append(os.path.join(product.folder, f"{number}.backup"))
            product.command("backup", made[-1])
            if number % 2:
                web.kill()
                web = product.start()
        web.wait_ready(START_S)
        wait_for("more lines than the backup has", lambda: count(product) > 0)
        web.stop()
        product.command("restore", made[-2])
        restored = count(product)
    finally:
        lines = writer.close()
    whole = ask(product, "PRAGMA integrity_check") == [("ok",)]
    with running(product):
        rows = settled(product, lines)
    return [
        *rows,
        (f"lines in the one of {len(made)} backups that was restored", f"{restored:,}", restored < lines),
        ("integrity check of what was restored", "ok" if whole else "failed", whole),
    ]


def forgetting(product: Product, scale: float) -> list[Row]:
    """Ten times the usual rate into a database that may hold 20 MB, killed meanwhile: only the oldest go."""
    product.configure()
    with open(os.path.join(product.data, "threatlens.yaml"), encoding="utf-8") as file:
        text = file.read()
    with open(os.path.join(product.data, "threatlens.yaml"), "w", encoding="utf-8") as file:
        file.write(text.replace('"sources"', f'"retention": {{"max_database_gb": {LIMIT_GB}}}, "sources"'))
    writer = Writer(product.logs, random.Random(6), per_second=3_000)
    holes = pages = 0
    try:
        for _ in range(4):
            with running(product, signed_in=True) as web:
                until = time.monotonic() + 20 * scale
                while time.monotonic() < until:
                    pages += 1
                    holes += not consistent(web)
                web.kill()
    finally:
        lines = writer.close()
    with running(product):
        wait_for("the newest line", lambda: count_new(product, lines), timeout_s=DRAIN_S)
        fits = wait_for("fitting", lambda: in_use(product) <= LIMIT_GB * 1e9, timeout_s=DRAIN_S, every_s=0.5)
    with contextlib.closing(product.connection()) as connection:
        low, high, n = connection.execute("SELECT min(id), max(id), count(*) FROM events").fetchone()
        dropped = connection.execute(
            "SELECT count(*) FROM events e WHERE id = (SELECT min(id) FROM events) AND id = 1"
        ).fetchone()[0]
    twice = sum(times - 1 for times in stored(product).values())
    return [
        ("lines written", f"{lines:,}", True),
        ("kept, the newest without a hole", f"{n:,}", n == high - low + 1 and high >= lines),
        ("the oldest is gone", "no" if dropped else "yes", not dropped),
        ("twice", f"{twice:,}", not twice),
        ("the end of the lines until it fits its limit", f"{fits:.0f} s", fits <= 120),
        (f"of {pages} walks over two pages, with holes or repeats", f"{holes}", not holes),
    ]


def in_use(product: Product) -> int:
    """Bytes of the database without its free pages."""
    pages, free, size = (
        int(str(ask(product, f"PRAGMA {what}")[0][0])) for what in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def consistent(web: Web) -> bool:
    """Two pages of the newest events follow each other without a hole and without a repeat."""
    with contextlib.closing(web.connect()) as connection:
        ids: list[int] = []
        for _ in range(2):
            before = f"&before={ids[-1]}" if ids else ""
            found = fetch(web, connection, f"/api/v1/events?limit=100{before}")
            ids += [int(number) for number in re.findall(r'"id": ?(\d+)', found)]
    return ids == sorted(ids, reverse=True) and len(ids) == len(set(ids))


def fetch(web: Web, connection: http.client.HTTPConnection, path: str) -> str:
    connection.request("GET", path, headers={"Authorization": f"Bearer {web.token}"})
    answer = connection.getresponse()
    body = answer.read().decode()
    if answer.status != 200:
        raise RuntimeError(f"{path} answered {answer.status}: {body[:300]}")
    return body


def metrics(web: Web) -> dict[str, float]:
    with contextlib.closing(web.connect()) as connection:
        lines = fetch(web, connection, "/metrics").splitlines()
    return {name: float(value) for name, _, value in (x.rpartition(" ") for x in lines if not x.startswith("#"))}


def clock_steps(product: Product, scale: float) -> list[Row]:
    """The clock of the machine goes an hour forth and back, a day back, to 1970, to a 29 February, over New Year."""
    offset, path = os.path.join(product.folder, "offset"), os.path.join(product.logs, "bench.log")
    said = os.path.join(product.data, "engine.json")
    product.configure()
    numbers, slow, silent, steps = Numbers(), 0.0, 0.0, 0

    def step(seconds: float) -> None:
        nonlocal slow, silent, steps
        steps += 1
        with open(offset, "r+b") as file:
            file.write(struct.pack("=q", int(seconds)))
        until = time.monotonic() + 12 * scale
        while time.monotonic() < until:
            at = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
            append(path, numbers.lines(10, at=at))
            asked = time.monotonic()
            with contextlib.closing(web.connect()) as connection:
                connection.request("GET", "/healthz")
                if connection.getresponse().status != 200:
                    slow = 99.0
            slow = max(slow, time.monotonic() - asked)
            silent = max(silent, time.time() - os.stat(said).st_mtime)  # the files' clock is not moved
            time.sleep(0.1)
        wait_for("the lines of the step", lambda: count(product) >= numbers.written)

    now = dt.datetime.now(dt.UTC)
    wanted = [
        dt.datetime(*day, tzinfo=dt.UTC) for day in ((1970, 1, 1, 12), (2028, 2, 29, 12), (2026, 12, 31, 23, 59, 55))
    ]
    with open(offset, "wb") as file:
        file.write(bytes(8))
    web = product.start(LD_PRELOAD=compiled(product.folder, "clock"), THREATLENS_CLOCK=offset)
    try:
        web.wait_ready(START_S)
        for seconds in (0, 3_600, -3_600, -86_400, *((each - now).total_seconds() for each in wanted), 0):
            step(seconds)
        rows = settled(product, numbers.written)
    finally:
        stop_s = web.stop()
    in_order = [
        number for (raw,) in ask(product, "SELECT raw FROM events ORDER BY id") if (number := LINE.search(str(raw)))
    ]
    order = [int(number.group(1)) for number in in_order]
    first, last = (dt.datetime.fromtimestamp(int(str(at)) / 1_000, dt.UTC).year for at in read_between(product))
    with open(os.path.join(product.folder, "server.log"), encoding="utf-8", errors="replace") as log:
        errors = sum("Traceback" in line or '"ERROR"' in line for line in log)
    return [
        *rows,
        (
            f"in the order of the file, over {steps} steps",
            "yes" if order == sorted(order) else "no",
            order == sorted(order),
        ),
        ("years that it believed in", f"{first} to {last}", (first, last) == (1970, 2028)),
        ("slowest /healthz", f"{slow:.2f} s", slow < HEALTHY_S),
        ("longest without a run of the job of every second", f"{silent:.1f} s", silent < STATE_S),
        ("errors in the log", f"{errors}", not errors),
        ("SIGTERM to exit", f"{stop_s:.1f} s", stop_s <= STOP_S),
    ]


def read_between(product: Product) -> tuple[object, ...]:
    """When it thinks that it read the first and the last line."""
    return ask(product, "SELECT min(ingested_at), max(ingested_at) FROM events")[0]


TRIALS: dict[str, Callable[[Product, float], list[Row]]] = {
    "short_lived": short_lived,
    "huge_file": huge_file,
    "few_descriptors": few_descriptors,
    "coming_and_going": coming_and_going,
    "stops": stops,
    "restarts": restarts,
    "backups": backups,
    "forgetting": forgetting,
    "clock_steps": clock_steps,
}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("names", nargs="*", metavar="TRIAL", help=f"of {', '.join(TRIALS)}; all if none is named")
    options.add_argument("--scale", type=float, default=1.0, help="a share of the usual amounts, such as 0.1")
    given = options.parse_args()
    if unknown := set(given.names) - set(TRIALS):
        options.error(f"there is no trial named {', '.join(sorted(unknown))}")
    good = True
    for name in given.names or TRIALS:
        trial = TRIALS[name]
        table = Table((trial.__doc__ or name).rstrip("."), "what", "value", "verdict")
        with workshop() as folder:
            for what, value, holds in trial(Product(folder), given.scale):
                table.add(what, value, "holds" if holds else "missed")
                good &= holds
        table.show()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
