"""Fanout: what processes on one database tell each other through Redis, so that none has to keep asking.

The database is the truth. What is told is mostly that there is more in it, so a message that is lost, or comes twice,
costs a moment and nothing else. Messages go into one short stream that every process reads on where it was; nobody but
two threads of each process ever waits for Redis, and those back off while it is away.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import random
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson

from threatlens.clock import now_us
from threatlens.settings import redis_name

log = logging.getLogger(__name__)

TIMEOUT_S = 2.0  # for a connection, an answer
BLOCK_S = 0.5  # that the server waits for news before it answers that there are none
#: Seconds until it is tried again: at first, at the most; each about half as long again to twice as long as the last.
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0
KEPT = 1_000  # messages in the stream
WAITING = 2_000  # messages that wait here while Redis is away; of more, the oldest go
AT_ONCE = 200  # of them, in one entry
FORGET_S = 3_600  # after which Redis forgets what nobody adds to any longer
STATUS_S = 5.0  # for which the engine's last word about itself holds
MAX_AGE_US = (
    FORGET_S * 1_000_000
)  # of what is believed: more than clocks differ, less than somebody may keep it for later


def connect(url: str) -> Any:
    """A client; nothing is sent yet."""
    from redis import Redis  # for those who use it
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return Redis.from_url(
        url,
        protocol=2,
        socket_connect_timeout=TIMEOUT_S,
        socket_timeout=BLOCK_S + TIMEOUT_S,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),  # we wait ourselves
        client_name="threatlens",
    )


def failures() -> tuple[type[Exception], ...]:
    """What a client raises."""
    from redis.exceptions import RedisError

    return (RedisError, OSError)


def words(error: Exception, url: str) -> tuple[str, str]:
    """A failure as (reason, remedy). What the server says holds no password; ours is taken out all the same."""
    said, kind = " ".join(str(error).split()), type(error).__name__
    if password := urlsplit(url).password:
        said = said.replace(unquote(password), "...").replace(password, "...")
    if kind.startswith("Authentication") or "NOAUTH" in said or "WRONGPASS" in said:
        return (
            f"{redis_name(url)} refuses the password: {said}",
            "correct it in THREATLENS_REDIS_URL",
        )
    if kind == "NoPermissionError":
        return f"{redis_name(url)}: {said}", "allow this user the keys threatlens:* and what docs/scaling.md lists"
    if kind == "ReadOnlyError":
        return f"{redis_name(url)} is a replica: {said}", "name its primary in THREATLENS_REDIS_URL"
    remedy = "start it, or take THREATLENS_REDIS_URL out; until then every process asks the database"
    return f"{redis_name(url)} does not answer: {said}", remedy


def ping(url: str) -> tuple[str, str]:
    """Why the server cannot be used, and what to do; ("", ""): it can."""
    client = connect(url)
    try:
        client.ping()
    except failures() as error:
        return words(error, url)
    finally:
        client.close()
    return "", ""


class Patience:
    """How long to wait after each failure in a row."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._wait_s = FIRST_WAIT_S

    def next(self) -> float:
        """Seconds: longer each time, and never the same for many processes."""
        wait_s, self._wait_s = self._wait_s, min(LONGEST_WAIT_S, self._wait_s * 2)
        return wait_s * (0.5 + self._chance())

    def reset(self) -> None:
        """It worked."""
        self._wait_s = FIRST_WAIT_S


class Fanout:
    """One a process. `listen` and `send` are for one thread each; everything else returns at once."""

    def __init__(
        self,
        url: str = "",
        secret: str = "",
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], int] = now_us,
    ) -> None:
        """url "": there is no Redis, and nothing is told. secret: the installation's key, which signs what is told."""
        self._url = url
        self._clock = clock
        self._now = now  # microseconds since the epoch
        #: News and status are signed with keys of their own: one cannot be put in the place of the other.
        self._keys = {
            what: hashlib.sha256(f"fan-out {what}\0{secret}".encode()).digest() for what in ("news", "status")
        }
        name = "threatlens:" + hashlib.sha256(b"name of the fan-out\0" + secret.encode()).hexdigest()[:16]
        self._stream, self._status_key = f"{name}:news", f"{name}:status"
        self._me = secrets.token_hex(8)
        self._hearers: dict[str, list[Callable[[Any], None]]] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._latest: dict[str, Any] = {}
        self._waiting: deque[tuple[str, Any]] = deque(maxlen=WAITING)
        self._unsent: list[tuple[str, Any]] = []
        self._seq = 0
        self._own_status = b""
        self._status: tuple[float, dict[str, Any]] = (float("-inf"), {})
        self._status_seen = b""
        self._said_at: dict[str, int] = {}  # sender: when it said its last, by its own clock
        self._at = b""  # the entry read last; "": not connected yet
        self._heard: dict[str, int] = {}  # sender: number of its last entry
        self._problems: dict[str, tuple[str, str]] = {"reading": ("it is being connected to", "")} if url else {}
        self.counts = {"sent": 0, "received": 0, "failures": 0}

    @property
    def used(self) -> bool:
        """Whether there is a Redis at all."""
        return bool(self._url)

    @property
    def hears(self) -> bool:
        """Whether news come by themselves just now."""
        return self.used and "reading" not in self._problems

    def problem(self) -> tuple[str, str]:
        """Why it does not work, and what to do; ("", ""): it does."""
        return next(iter(self._problems.copy().values()), ("", ""))

    def measures(self) -> dict[str, int]:
        """up, sent, received, failures: of this process."""
        return {"up": int(not self.problem()[0]), **self.counts}

    @property
    def name(self) -> str:
        """The server as it may be shown."""
        return redis_name(self._url)

    # -- telling

    def tell(self, kind: str, value: Any = None, *, latest: bool = False) -> None:
        """Tell the others; with `latest`, in place of what of this kind was not sent yet. value is JSON."""
        if not self.used:
            return
        with self._changed:
            if latest:
                self._latest[kind] = value
            else:
                self._waiting.append((kind, value))
            self._changed.notify_all()

    def tell_status(self, status: dict[str, Any]) -> None:
        """What the engine says about itself, for whoever asks for status()."""
        if self.used:
            with self._changed:
                self._own_status = self._sealed("status", {"from": self._me, "status": status})
                self._changed.notify_all()

    def send(self, stopped: Callable[[float], bool]) -> None:
        """Send what is told until stopped(seconds) says so; it waits that long."""
        client, patience = connect(self._url), Patience()
        while not stopped(0):
            with self._changed:
                self._changed.wait_for(
                    lambda: self._closed or self._latest or self._waiting or self._own_status or self._unsent, 1.0
                )
                entry, status = self._entry(), self._own_status
                self._own_status = b""
            if not entry and not status:
                continue
            try:
                with client.pipeline(transaction=False) as pipeline:
                    if entry:
                        pipeline.xadd(self._stream, {"m": entry}, maxlen=KEPT, approximate=True)
                        pipeline.expire(self._stream, FORGET_S)
                    if status:
                        pipeline.set(self._status_key, status, ex=int(2 * STATUS_S))
                    pipeline.execute()
            except failures() as error:
                self._failed("sending", error)
                stopped(patience.next())
                continue
            self._unsent = []
            self.counts["sent"] += bool(entry)
            patience.reset()
            self._problems.pop("sending", None)
        client.close()

    def _entry(self) -> bytes:
        """The entry that is to be sent; the same one, of the same number, until it is."""
        if not self._unsent and (self._latest or self._waiting):
            waiting = (self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting))))
            self._unsent = [*self._latest.items(), *waiting]
            self._latest = {}
            self._seq += 1
        if not self._unsent:
            return b""
        return self._sealed("news", {"from": self._me, "seq": self._seq, "news": self._unsent})

    # -- hearing

    def on(self, kind: str, take: Callable[[Any], None]) -> None:
        """Have the thread that listens call this with what others tell of this kind.

        After a gap, in which anything may have been told, it is called with None.
        """
        self._hearers.setdefault(kind, []).append(take)

    def status(self) -> dict[str, Any]:
        """What the engine said about itself within the last seconds; {}: nothing came."""
        at, status = self._status
        return status if self._clock() - at < STATUS_S else {}

    def listen(self, stopped: Callable[[float], bool]) -> None:
        """Hear the others until stopped(seconds) says so; it waits that long."""
        client, patience = connect(self._url), Patience()
        while not stopped(0):
            try:
                if "reading" in self._problems:
                    self._find_place(client)
                with client.pipeline(transaction=False) as pipeline:
                    pipeline.xread({self._stream: self._at}, count=AT_ONCE, block=int(BLOCK_S * 1000))
                    pipeline.get(self._status_key)
                    found, status = pipeline.execute()
            except failures() as error:
                self._failed("reading", error)
                stopped(patience.next())
                continue
            patience.reset()
            if self._problems.pop("reading", None):
                log.info("connected to Redis at %s", self.name)
                self._say_gap()
            if status and status != self._status_seen:
                self._take_status(status)
            for _, entries in found or ():
                for entry_id, fields in entries:
                    self._at = entry_id
                    self._take(fields)
        client.close()

    def close(self) -> None:
        """The process is stopping."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _find_place(self, client: Any) -> None:
        """Where to read on: where it was; at the end at first; from the start of a stream that has begun anew."""
        newest = client.xrevrange(self._stream, count=1)
        end = bytes(newest[0][0]) if newest else b"0-0"
        if not self._at:
            self._at = end
        elif _number(end) < _number(self._at):
            self._at = b"0-0"  # what is known of it is told apart by its sender's numbers

    def _say_gap(self) -> None:
        for takers in self._hearers.values():
            for take in takers:
                take(None)

    def _take_status(self, sealed: bytes) -> None:
        """Believe what is newer than what its sender said before: an old word that somebody kept is none."""
        self._status_seen = sealed
        at, said = self._opened("status", sealed)
        if said is None or at <= self._said_at.get(said["from"], 0):
            return
        _remember(self._said_at, said["from"], at)
        self._status = (self._clock(), said["status"])

    def _take(self, fields: dict[bytes, bytes]) -> None:
        _, entry = self._opened("news", fields.get(b"m", b""))
        if entry is None or entry["from"] == self._me or entry["seq"] <= self._heard.get(entry["from"], 0):
            return
        _remember(self._heard, entry["from"], entry["seq"])
        self.counts["received"] += 1
        for kind, value in entry["news"]:
            for take in self._hearers.get(kind, ()):
                take(value)

    # -- both

    def _sealed(self, what: str, value: Any) -> bytes:
        body = _json([self._now(), value])
        return hmac.digest(self._keys[what], body, "sha256") + body

    def _opened(self, what: str, sealed: bytes) -> tuple[int, Any]:
        """When one of us wrote this, and what; (0, None) for anything else, and for what is too old."""
        seal, body = sealed[:32], sealed[32:]
        if not hmac.compare_digest(seal, hmac.digest(self._keys[what], body, "sha256")):
            return 0, None
        at, value = orjson.loads(body)
        return (at, value) if abs(self._now() - at) < MAX_AGE_US else (0, None)

    def _failed(self, doing: str, error: Exception) -> None:
        self.counts["failures"] += 1
        reason, remedy = words(error, self._url)
        if self._problems.get(doing, ("", ""))[0] != reason:
            log.warning("Redis: %s; %s", reason, remedy)
        self._problems[doing] = (reason, remedy)
        for take in self._hearers.get("stored", ()):  # who waits for news asks for them again
            take(None)


def _remember(known: dict[str, int], sender: str, number: int) -> None:
    known[sender] = number
    while len(known) > WAITING:
        del known[next(iter(known))]


def _number(entry_id: bytes) -> list[int]:
    return [int(part) for part in entry_id.split(b"-")]


def _json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
