# ruff: noqa: INP001 - a program's other half, not a module
"""Three more machines for the pictures: a mail server, a database and a gateway, which write as such machines do.

Addresses and names are those that are reserved for documentation.
"""

from __future__ import annotations

import datetime as dt
import json
import random
from collections.abc import Callable
from pathlib import Path

PEOPLE = ("anna", "ben", "carla", "dimitri", "elif", "farid", "grace")
NAMES = ("mail1", "db1", "gw1")


def configuration(folder: Path) -> str:
    """threatlens.yaml (JSON is YAML): the files of this folder, one source a machine."""
    sources = [{"name": name, "path": str(folder / f"{name}.log")} for name in NAMES]
    return json.dumps({"allowed_roots": [str(folder)], "sources": sources})


def write(folder: Path, seed: int, stopped: Callable[[float], bool]) -> None:
    """Append lines to the machines' files until `stopped(seconds to wait)` says True."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    while not stopped(rng.expovariate(2.5)):
        name = rng.choices(NAMES, (5, 3, 2))[0]
        with open(folder / f"{name}.log", "a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in {"mail1": mail, "db1": database, "gw1": gateway}[name](rng)))


def mail(rng: random.Random) -> list[str]:
    """Somebody fetches mail, or a mail comes in."""
    lead, person = f"{now():%b %d %H:%M:%S} mail1", rng.choice(PEOPLE)
    home = f"192.0.2.{20 + PEOPLE.index(person)}"  # everybody is at their own address
    if rng.random() < 0.6:
        return [
            (
                f"{lead} dovecot: imap-login: Login: user=<{person}@example.org>, method=PLAIN, rip={home}, "
                f"lip=192.0.2.8, mpid={rng.randrange(9_000, 40_000)}, TLS, session=<{rng.randbytes(6).hex()}>"
            )
        ]
    pid, number = rng.randrange(3_000, 9_000), rng.randrange(1, 9)
    client = f"mx{number}.example.net[198.51.100.{60 + number}]"
    goodbye = "ehlo=2 starttls=1 mail=1 rcpt=1 data=1 quit=1 commands=7"
    return [
        f"{lead} postfix/smtpd[{pid}]: connect from {client}",
        f"{lead} postfix/smtpd[{pid}]: disconnect from {client} {goodbye}",
    ]


def database(rng: random.Random) -> list[str]:
    """The shop asks, and comes back."""
    lead = f"{now():%Y-%m-%d %H:%M:%S}.{rng.randrange(1_000):03} UTC [{rng.randrange(2_000, 9_000)}]"
    host = "192.0.2.10"
    return [
        rng.choice(
            (
                f"{lead} LOG:  connection received: host={host} port={rng.randrange(40_000, 60_000)}",
                (
                    f"{lead} shop@shop LOG:  connection authorized: user=shop database=shop SSL enabled "
                    "(protocol=TLSv1.3, cipher=TLS_AES_256_GCM_SHA384, bits=256)"
                ),
                f"{lead} LOG:  checkpoint complete: wrote {rng.randrange(10, 900)} buffers (0.2%)",
            )
        )
    ]


def gateway(rng: random.Random) -> list[str]:
    """People dial in; the internet knocks."""
    lead, person = f"{now():%b %d %H:%M:%S} gw1", rng.choice(PEOPLE)
    client = f"198.51.100.{4 + PEOPLE.index(person)}:{rng.randrange(1_024, 60_000)}"
    if rng.random() < 0.4:
        return [f"{lead} openvpn[812]: {client} [{person}] Peer Connection Initiated with [AF_INET]{client}"]
    return [
        (
            f"{lead} kernel: [{rng.randrange(10_000, 90_000)}.{rng.randrange(1_000_000):06}] [UFW BLOCK] IN=eth0 OUT= "
            f"SRC=198.51.100.{rng.randrange(90, 250)} DST=192.0.2.1 LEN=44 TOS=0x00 PREC=0x00 TTL=243 "
            f"ID={rng.randrange(65_536)} PROTO=TCP SPT={rng.randrange(32_768, 60_999)} "
            f"DPT={rng.choice((22, 23, 445, 3389, 8080))} WINDOW=1024 RES=0x00 SYN URGP=0"
        )
    ]


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
