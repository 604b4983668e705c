"""How many lines one second of one core decodes, by format, through SourceDecoder.decode.

Run: python benchmarks/decode.py [--lines 50000] [--repeat 5]. "x str.split" relates each figure to `str.split` of the
same lines in the same run, which is what to compare between machines: lower is better. Where a format is also measured
with its name configured, the last table says what finding it out costs.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.table import Table, against
from threatlens.decoders import SourceDecoder

READ_AT_S = 1_795_420_000.0  # 2026-11-23T07:46:40Z
TARGETS = {"sshd": 300_000, "nginx": 300_000, "JSON": 150_000}  # lines/s
AUTO_TARGET = 1.15  # times what the fixed format takes


def sshd(dice: random.Random, number: int) -> str:
    """Brute force with some of everything else that a server on the internet logs."""
    clock = f"Nov 23 {6 + number // 36000:02d}:{number // 600 % 60:02d}:{number // 10 % 60:02d}"
    address = f"203.0.113.{dice.randrange(256)}"
    port = dice.randrange(1024, 65536)
    message = dice.choice(
        (
            f"Failed password for invalid user admin{dice.randrange(100)} from {address} port {port} ssh2",
            f"Failed password for root from {address} port {port} ssh2",
            f"Invalid user oracle from {address} port {port}",
            f"Connection closed by authenticating user root {address} port {port} [preauth]",
            f"Received disconnect from {address} port {port}:11: Bye Bye [preauth]",
            f"Disconnected from invalid user test {address} port {port} [preauth]",
            f"Accepted publickey for alice from {address} port {port} ssh2: ED25519 SHA256:abcdefghijklmnopqrstuvwxyz",
            f"pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost={address}",
        )
    )
    return f"{clock} web1 sshd[{1000 + number % 30000}]: {message}"


def nginx(dice: random.Random, number: int) -> str:
    """A small site's traffic."""
    clock = f"23/Nov/2026:{6 + number // 36000:02d}:{number // 600 % 60:02d}:{number // 10 % 60:02d} +0000"
    target = dice.choice(("/", "/index.html", "/static/app.css", "/api/v1/items?page=2", "/wp-login.php"))
    return (
        f'198.51.100.{dice.randrange(256)} - - [{clock}] "GET {target} HTTP/1.1" {dice.choice((200, 200, 304, 404))}'
        f' {dice.randrange(20000)} "https://www.example.org/" "Mozilla/5.0 (X11; Linux x86_64) Firefox/128.0"'
    )


def apache(dice: random.Random, number: int) -> str:
    """The same with Apache's virtual host in front."""
    return "www.example.org:443 " + nginx(dice, number)


def json_line(dice: random.Random, number: int) -> str:
    """What a JSON logger writes."""
    second = f"{number // 600 % 60:02d}:{number // 10 % 60:02d}.{dice.randrange(1000):03d}"
    return (
        f'{{"time":"2026-11-23T06:{second}Z","level":"info","msg":"request handled","remote_addr":"192.0.2.'
        f'{dice.randrange(256)}","method":"GET","uri":"/items/{dice.randrange(1000)}","status":200,"latency_ms":'
        f'{dice.random() * 100:.3f},"request_id":"{dice.randrange(10**12):012d}"}}'
    )


def iso(dice: random.Random, number: int) -> str:
    """sshd as Debian 12 writes it."""
    line = sshd(dice, number)
    return f"2026-11-23T{line[7:15]}.{dice.randrange(10**6):06d}+00:00{line[15:]}"


def mixed(dice: random.Random, number: int) -> str:
    """An auth.log and syslog in one, with some lines of no known program."""
    head = sshd(dice, number)[:15]
    return dice.choice(
        (
            lambda: sshd(dice, number),
            lambda: f"{head} web1 CRON[{number}]: (root) CMD (run-parts /etc/cron.hourly)",
            lambda: f"{head} web1 sudo:    alice : TTY=pts/0 ; PWD=/home/alice ; USER=root ; COMMAND=/bin/id",
            lambda: f"{head} web1 systemd[1]: Started session-{number}.scope - Session {number} of User alice.",
            lambda: (
                f"{head} web1 kernel: [{number}.000001] [UFW BLOCK] IN=eth0 OUT= MAC= SRC=192.0.2.{number % 256} "
                "DST=198.51.100.7 LEN=40 TOS=0x00 PREC=0x00 TTL=244 ID=1 PROTO=TCP SPT=4000 DPT=23 SYN URGP=0"
            ),
            lambda: f"{head} web1 myservice[{number}]: job {number} done in {number % 100} ms",
        )
    )()


def unknown(dice: random.Random, number: int) -> str:
    """Lines of no format."""
    return f"worker {number} has taken item {dice.randrange(1000)} from the shelf"


def best_of(repeat: int, *runs: Callable[[], object]) -> list[float]:
    """Processor seconds of each one's quickest run: the one that others on the machine disturbed least. They take
    turns, so that what disturbs for a while disturbs all of them."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(repeat):
        for run, taken in zip(runs, times, strict=True):
            start = time.process_time()
            run()
            taken.append(time.process_time() - start)
    return [min(taken) for taken in times]


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--lines", type=int, default=50_000)
    options.add_argument("--repeat", type=int, default=5)
    arguments = options.parse_args()
    cases: list[tuple[str, Callable[[random.Random, int], str], tuple[str, ...]]] = [
        ("sshd", sshd, ("auto", "sshd")),
        ("sshd, ISO time", iso, ("auto",)),
        ("nginx", nginx, ("auto", "nginx.access")),
        ("apache vhost", apache, ("auto",)),
        ("JSON", json_line, ("auto", "json")),
        ("mixed syslog", mixed, ("auto",)),
        ("unknown", unknown, ("auto",)),
    ]
    gc.set_threshold(50_000, 20, 50)  # as the product runs
    took: dict[str, float] = {}
    table = Table("Decoding, one core", "lines", "lines/s", "us/line", "x str.split", "target")
    for name, make, forms in cases:
        dice = random.Random(1)
        lines = [make(dice, number) for number in range(arguments.lines)]
        gc.freeze()

        def decode(form: str, lines: list[str] = lines) -> None:
            decoder = SourceDecoder(format=form)
            for line in lines:
                decoder.decode(line, READ_AT_S)

        def split(lines: list[str] = lines) -> None:
            for line in lines:
                line.split()

        reference, *taken = best_of(arguments.repeat, split, *(partial(decode, form) for form in forms))
        for form, seconds in zip(forms, taken, strict=True):
            row = name if form == "auto" else f"{name}, fixed"
            rate = len(lines) / seconds
            took[row] = seconds / len(lines)
            verdict = against(rate, TARGETS[row], at_least=True) if row in TARGETS else ""
            table.add(row, f"{rate:,.0f}", f"{took[row] * 1e6:.2f}", f"{seconds / reference:.1f}", verdict)
    table.show()
    cost = Table("What finding the format out costs", "lines", "auto / fixed", "target")
    for name in TARGETS:
        ratio = took[name] / took[f"{name}, fixed"]
        cost.add(name, f"{ratio:.2f}", against(ratio, AUTO_TARGET))
    cost.show()
    print(f"targets: {', '.join(f'{name} {rate:,}' for name, rate in TARGETS.items())} lines/s; auto {AUTO_TARGET} x")


if __name__ == "__main__":
    main()
