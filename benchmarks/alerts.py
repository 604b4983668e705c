"""Are the alerts of a server that is killed again and again those of one that is left alone?

The same log is written line by line into two files, each followed by a server of its own: guesses at sshd among visits
to a shop, with an attack from every shipped rule's own samples in between. One server is killed with SIGKILL thirty
times meanwhile. Then every event, every match (rule, group, first and last event, count, suppression) and every
incident (subject, title, severity, outcome, count, members, addresses and users) of one must be the other's.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import glob
import os
import random
import re
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator

import yaml

from benchmarks.corpus import generate
from benchmarks.product import ROOT, Product, Web, workshop
from benchmarks.table import Table
from threatlens.decoders import SourceDecoder

START_S, QUIET_S = 180.0, 15.0
SERIAL = re.compile(r"(audit\(\d+\.\d+:)(\d+)\)")
#: What is compared; the numbers of matches and incidents are given in the order of events, so they are too.
QUESTIONS = {
    "matches": "SELECT rule_id, kind, group_by, first_us, timestamp, n, event_id, source_ip, user_name, host_name,"
    " suppressed, incident_id FROM detections",
    "incidents": "SELECT id, status, title, severity, outcome, subject_kind, subject, first_us, last_us, n, previous_id"
    " FROM incidents",
    "members of incidents": "SELECT incident_id, rule_id, outcome, severity, n, events, first_us, last_us,"
    " last_event_id FROM incident_members",
    "addresses, users and hosts of incidents": "SELECT kind, value, incident_id, n, taken FROM incident_entities",
    "events": "SELECT id, timestamp, severity, raw FROM events",
}


def attacks() -> Iterator[list[str]]:
    """What each shipped rule says it must match, in the order of the rules' files; each has its own time: the hour in
    which a line is read is not the same for two servers."""
    decoder, number = SourceDecoder(), 0
    for path in sorted(glob.glob(os.path.join(ROOT, "threatlens", "rules", "**", "*.yml"), recursive=True)):
        with open(path, encoding="utf-8") as file:
            for document in yaml.safe_load_all(file):
                for sample in (document.get("threatlens") or {}).get("matching") or ():
                    number += 1000  # records of the audit system belong together by their number
                    lines = [
                        SERIAL.sub(lambda found: f"{found[1]}{number + int(found[2])})", line)  # noqa: B023
                        for line in ([sample] if isinstance(sample, str) else sample)
                    ]
                    if all("\n" not in line and decoder.decode(line, time.time()).timestamp_us for line in lines):
                        yield [line + "\n" for line in lines]


def log(lines: int, seed: int) -> list[str]:
    """Entries of a server's usual day, so many, with an attack after every few of them; each is written at once."""
    end = dt.datetime.now(dt.UTC)
    usual = [generate(kind, lines, seed=seed, end=end) for kind in ("sshd", "nginx", "json")]
    dice, told, bad = random.Random(seed), [], list(attacks())
    while len(told) < lines:
        told.append(next(dice.choice(usual)))
        if bad and dice.random() < 0.05:
            told.append("".join(bad.pop(0)))
    return told


class Server:
    """One that follows a file of its own."""

    def __init__(self, folder: str) -> None:
        os.makedirs(folder)
        self.product = Product(folder)
        self.product.configure()
        self.path = os.path.join(self.product.logs, "all.log")
        self.web = self.product.start()

    def kill(self) -> None:
        self.web.kill()
        self.web = self.product.start()

    def answers(self) -> dict[str, list[tuple[object, ...]]]:
        with contextlib.closing(self.product.connection()) as connection:
            return {what: sorted(connection.execute(ask).fetchall(), key=repr) for what, ask in QUESTIONS.items()}

    def settle(self) -> None:
        """Wait until nothing new is stored any more; lines of one report are one event, so there are fewer of these."""
        seen, since = -1, time.monotonic()
        while time.monotonic() - since < QUIET_S:
            if (now := self.count()) != seen:
                seen, since = now, time.monotonic()
            time.sleep(0.5)

    def count(self) -> int:
        with contextlib.suppress(sqlite3.Error), contextlib.closing(self.product.connection()) as connection:
            return int(connection.execute("SELECT count(*) FROM events").fetchone()[0])
        return 0


def write(paths: list[str], lines: list[str], rate: int, ended: threading.Event) -> None:
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open(path, "a", encoding="utf-8")) for path in paths]
        for number, line in enumerate(lines):
            for file in files:
                file.write(line)
                file.flush()
            ahead = number / rate - (time.monotonic() - begun)
            if ahead > 0.01 and ended.wait(ahead):
                return


def kill_again_and_again(server: Server, kills: int, writing: threading.Thread, dice: random.Random) -> int:
    """How many struck while lines came."""
    for number in range(kills):
        web: Web = server.web
        web.wait_ready(START_S)
        time.sleep(dice.random() * 2)
        if not writing.is_alive():
            return number
        server.kill()
    return kills


def run(lines: int, rate: int, kills: int, seed: int) -> bool:
    told = log(lines, seed)
    with workshop() as folder, contextlib.ExitStack() as stack:
        calm, killed = (Server(os.path.join(folder, name)) for name in ("calm", "killed"))
        for server in (calm, killed):
            stack.callback(lambda server: server.web.stop(), server)
            server.web.wait_ready(START_S)
        ended = threading.Event()
        writing = threading.Thread(target=write, args=([calm.path, killed.path], told, rate, ended))
        writing.start()
        try:
            struck = kill_again_and_again(killed, kills, writing, random.Random(seed))
            writing.join()
        finally:
            ended.set()
        for server in (calm, killed):
            server.settle()
            server.web.stop()
        expected, got = calm.answers(), killed.answers()
    table = Table(f"Alerts with {struck} kills and without", "what", "number", "verdict")
    good = struck == kills
    table.add("kills while lines came", f"{struck}", "holds" if good else "missed")
    table.add("lines written", f"{sum(each.count(chr(10)) for each in told):,}", "")
    for what, those in expected.items():
        other = set(those) ^ set(got[what])
        good &= not other and len(those) == len(got[what])
        table.add(what, f"{len(those):,}", "equal" if not other else f"{len(other):,} differ")
        for one in sorted(other, key=repr)[:5]:
            print(what, "with kills" if one in got[what] else "without", one, file=sys.stderr)
    table.add("rules that matched", f"{len({row[0] for row in expected['matches']}):,}", "")
    table.show()
    return good


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--lines", type=int, default=90_000)
    options.add_argument("--rate", type=int, default=500, help="lines a second")
    options.add_argument("--kills", type=int, default=30)
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    return 0 if run(given.lines, given.rate, given.kills, given.seed) else 1


if __name__ == "__main__":
    sys.exit(main())
