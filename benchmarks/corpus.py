"""Logs to measure with: as many lines as wanted, the same for the same seed, times up to now.

The mixtures are those of a server on the internet: guessing at sshd, visits to a shop, a service that logs JSON.
Times must be recent, as fail2ban skips lines older than it remembers.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Iterator

KINDS = ("sshd", "nginx", "json")
LINES_PER_SECOND = 500  # of log time
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

PAGES = ("/", "/category/lamps", "/product/1042", "/product/2203", "/search?q=oak+table", "/cart", "/static/shop.css")
AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
)


def write(path: str, kind: str, lines: int, *, seed: int = 1, end: dt.datetime | None = None) -> int:
    """Write a log of this kind (one of KINDS) whose last line is from `end` (now); its size in bytes."""
    end = end or dt.datetime.now(dt.UTC)
    with open(path, "w", encoding="ascii", newline="\n") as file:
        for number, line in enumerate(generate(kind, lines, seed=seed, end=end)):
            file.write(line)
            if number == lines - 1:
                return file.tell()
    raise ValueError("a log has at least one line")


def generate(kind: str, lines: int, *, seed: int, end: dt.datetime) -> Iterator[str]:
    """The lines of it, each with its newline."""
    line_of = LINES[kind]
    dice = random.Random(seed)
    begin = end - dt.timedelta(seconds=lines // LINES_PER_SECOND)
    for second in range(lines // LINES_PER_SECOND + 1):
        now = begin + dt.timedelta(seconds=second)
        for number in range(second * LINES_PER_SECOND, min(lines, (second + 1) * LINES_PER_SECOND)):
            yield line_of(dice, now, number)


def sshd(dice: random.Random, now: dt.datetime, number: int) -> str:
    address = f"203.0.113.{dice.randrange(256)}"
    port = dice.randrange(32_768, 61_000)
    kind = number % 8
    if kind == 0:
        text = f"Failed password for invalid user admin{dice.randrange(100)} from {address} port {port} ssh2"
    elif kind == 1:
        text = f"Failed password for root from {address} port {port} ssh2"
    elif kind == 2:
        text = f"Invalid user oracle{dice.randrange(100)} from {address} port {port}"
    elif kind == 3:
        text = f"Connection closed by authenticating user root {address} port {port} [preauth]"
    elif kind == 4:
        text = f"Received disconnect from {address} port {port}:11: Bye Bye [preauth]"
    elif kind == 5:
        text = f"Disconnected from invalid user test {address} port {port} [preauth]"
    elif kind == 6:
        text = f"Accepted publickey for alice from 192.0.2.21 port {port} ssh2: ED25519 SHA256:4kB0vN3m0qk2wYkqjJ1f4"
    else:
        text = "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= "
        text += f"rhost={address}  user=root"
    when = f"{MONTHS[now.month - 1]} {now.day:2} {now.hour:02}:{now.minute:02}:{now.second:02}"
    return f"{when} web1 sshd[{1000 + number % 30000}]: {text}\n"


def nginx(dice: random.Random, now: dt.datetime, number: int) -> str:
    when = f"{now.day:02}/{MONTHS[now.month - 1]}/{now.year}:{now.hour:02}:{now.minute:02}:{now.second:02} +0000"
    status = (200, 200, 200, 304, 404)[number % 5]
    return (
        f'198.51.100.{dice.randrange(256)} - - [{when}] "GET {dice.choice(PAGES)} HTTP/1.1" {status} '
        f'{dice.randrange(40_000)} "https://shop.example/" "{AGENTS[number % 2]}"\n'
    )


def json(dice: random.Random, now: dt.datetime, number: int) -> str:
    level = "error" if number % 50 == 0 else "info"
    return (
        f'{{"time":"{now:%Y-%m-%dT%H:%M:%S}.{number % 1000:03}Z","level":"{level}","msg":"request handled",'
        f'"service":"checkout","remote_addr":"198.51.100.{dice.randrange(256)}","method":"GET",'
        f'"uri":"/items/{dice.randrange(1000)}","status":200,"latency_ms":{dice.random() * 100:.3f},'
        f'"request_id":"{number:012}"}}\n'
    )


LINES: dict[str, Callable[[random.Random, dt.datetime, int], str]] = {"sshd": sshd, "nginx": nginx, "json": json}
