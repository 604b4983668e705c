"""How often something may be tried. Passwords: for an account from anywhere, and from an address for any account.

A few mistakes are free; then every further one doubles the wait, up to a quarter of an hour. Nobody is locked out for
ever, and who logged in from an address before is not locked out there by what others try elsewhere. The counts are in
the database: more processes are no more tries, and a restart forgets nothing. What must be decided without asking
anybody (Allowance) is counted in each process; where there is Redis, each hears of what was used at the others.
"""

from __future__ import annotations

import hashlib
import ipaddress
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from threatlens.clock import now_us
from threatlens.fanout import Fanout
from threatlens.store_logins import Failures, LoginFailures

FREE = {"account": 10, "known": 10, "address": 20, "link": 20}
LONGEST_S = 900.0
FORGET_US = 3_600_000_000
AGAIN_S = 0.5  # between two times that others are told of who goes on


class Allowance:
    """So many at once for each key, and some more each second; the key that was quiet longest is forgotten."""

    def __init__(
        self,
        at_once: int,
        per_s: float,
        most_keys: int,
        *,
        strict: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """strict: who goes on when there is nothing left gets nothing until a pause."""
        self._at_once, self._per_s, self._most = float(at_once), per_s, most_keys
        self._strict = strict
        self._clock = clock
        self._left: dict[str, tuple[float, float, float]] = {}  # what is left, as of when, when that was told
        self._lock = threading.Lock()
        #: Told of a key that used one, and now and then of one that would: for other processes.
        self.tell: Callable[[str], object] | None = None

    def take(self, key: str) -> bool:
        """Use one; False: there is none left."""
        left, told = self._use(key, told=False)
        if told and self.tell is not None:
            self.tell(key)
        return left >= 1

    def used_elsewhere(self, key: str) -> None:
        """Another process has used one."""
        self._use(key, told=True)

    def _use(self, key: str, *, told: bool) -> tuple[float, bool]:
        """(what was left, whether others are to be told)."""
        now = self._clock()
        with self._lock:
            left, at, told_at = self._left.pop(key, (self._at_once, now, float("-inf")))
            left = min(self._at_once, left + (now - at) * self._per_s)
            telling = not told and (left >= 1 or (self._strict and now - told_at >= AGAIN_S))
            after = left - 1 if left >= 1 else (0.0 if self._strict else left)
            self._left[key] = (after, now, now if telling else told_at)
            while len(self._left) > self._most:
                del self._left[next(iter(self._left))]
        return left, telling


def share(allowances: Mapping[str, Allowance], fanout: Fanout) -> None:
    """Have each, by its name, count what was used in other processes too, as far as they can be heard."""
    if not fanout.used:
        return
    for name, allowance in allowances.items():
        allowance.tell = lambda key, name=name: fanout.tell("used", [name, key])

    def take(used: tuple[str, str] | None) -> None:
        if used is not None and used[0] in allowances:
            allowances[used[0]].used_elsewhere(used[1])

    fanout.on("used", take)


class LoginLimits:
    """Failures by key, which is a kind and a name or address."""

    def __init__(self, failures: LoginFailures, secret: str, clock: Callable[[], int] = now_us) -> None:
        self._failures = failures
        self._secret = hashlib.sha256(b"login limits\0" + secret.encode()).digest()
        self._clock = clock  # microseconds since the epoch

    def wait_s(self, keys: Sequence[tuple[str, str]]) -> float:
        """Seconds until one more try is allowed; 0: now."""
        return self._wait(keys, self._failures.read(self._hashed(keys)), self._clock())

    def begin(self, keys: Sequence[tuple[str, str]]) -> float:
        """Count a try as failed until it succeeds, so that tries at once are counted too; the wait if it may not be."""
        if (wait := self.wait_s(keys)) > 0:  # who has to wait writes nothing
            return wait
        now = self._clock()
        hashed = self._hashed(keys)
        counted = self._failures.add(hashed, now, FORGET_US, lambda known: self._wait(keys, known, now) <= 0)
        return 0.0 if counted else self._wait(keys, self._failures.read(hashed), now)

    def succeeded(self, keys: Sequence[tuple[str, str]]) -> None:
        """The password was right: these begin anew."""
        self._failures.forget(self._hashed(keys))

    def _hashed(self, keys: Sequence[tuple[str, str]]) -> list[str]:
        texts = ("\0".join(key).encode("utf-8", "surrogatepass") for key in keys)
        return [hashlib.blake2b(text, key=self._secret, digest_size=16).hexdigest() for text in texts]

    def _wait(self, keys: Sequence[tuple[str, str]], known: Sequence[Failures], now: int) -> float:
        return max((_wait_s(kind, *failures, now) for (kind, _), failures in zip(keys, known, strict=True)), default=0)


def _wait_s(kind: str, count: int, at: int, now: int) -> float:
    beyond = count - FREE[kind]
    if beyond < 0:
        return 0.0
    whole = min(LONGEST_S, 2.0 ** min(beyond, 20))
    return max(0.0, min(whole, (at - now) / 1e6 + whole))  # a clock that was set back makes nobody wait longer


def keys_for(name: str, address: str, *, known: bool) -> list[tuple[str, str]]:
    """What a try counts against; known: somebody logged in to this account from this address before.

    No name that is typed leads to the count of a known address, as that is of another kind.
    """
    account = ("known", f"{address} {name}") if known else ("account", name)
    return [account, ("address", network(address))]


def network(address: str) -> str:
    """An IPv4 address, or the /64 that an IPv6 host can choose its addresses from."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 6:
        return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
    return address
