"""How often a password may be tried: for an account from anywhere, and from an address for any account.

A few mistakes are free; then every further one doubles the wait, up to a quarter of an hour. Nobody is locked out for
ever, and who logged in from an address before is not locked out there by what others try elsewhere.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable, Sequence

FREE = {"account": 10, "address": 20}
LONGEST_S = 900.0
FORGET_S = 3_600.0
MAX_KEYS = 20_000


class LoginLimits:
    """Failures by key, in memory, the least recent forgotten first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: dict[tuple[str, str], tuple[int, float]] = {}
        self._lock = threading.Lock()

    def wait_s(self, keys: Sequence[tuple[str, str]]) -> float:
        """Seconds until one more try is allowed; 0: now."""
        now = self._clock()
        with self._lock:
            return max((self._wait(key, now) for key in keys), default=0.0)

    def begin(self, keys: Sequence[tuple[str, str]]) -> float:
        """Count a try as failed until it succeeds, so that tries at once are counted too; the wait if it may not be."""
        now = self._clock()
        with self._lock:
            wait = max((self._wait(key, now) for key in keys), default=0.0)
            if wait <= 0:
                for key in keys:
                    count, at = self._failures.pop(key, (0, now))
                    self._failures[key] = (1 if now - at > FORGET_S else count + 1, now)
                while len(self._failures) > MAX_KEYS:
                    self._failures.pop(next(iter(self._failures)))
            return wait

    def succeeded(self, keys: Sequence[tuple[str, str]]) -> None:
        """The password was right: these begin anew."""
        with self._lock:
            for key in keys:
                self._failures.pop(key, None)

    def _wait(self, key: tuple[str, str], now: float) -> float:
        count, at = self._failures.get(key, (0, 0.0))
        beyond = count - FREE[key[0]]
        if beyond < 0:
            return 0.0
        return max(0.0, at + min(LONGEST_S, 2.0 ** min(beyond, 20)) - now)


def keys_for(name: str, address: str, *, known: bool) -> list[tuple[str, str]]:
    """What a try counts against; known: somebody logged in to this account from this address before."""
    return [("account", f"{name} from {address}" if known else name), ("address", network(address))]


def network(address: str) -> str:
    """An IPv4 address, or the /64 that an IPv6 host can choose its addresses from."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 6:
        return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
    return address
