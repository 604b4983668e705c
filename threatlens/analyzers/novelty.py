"""What was never seen before: a user on a host, a network of a user, an hour of a user, a shape of messages.

Nothing is raised while a thing is learned: everything new about a user or host that is itself known for less than
LEARNING_US is only remembered. Memory is bounded, the least recent is forgotten. Times are event times.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from threatlens.event import Decoded, RuleMatch

LEARNING_US = 7 * 86_400_000_000
MAX_KNOWN = 50_000
#: Logins of a user before one of them can be at an unusual hour.
MIN_LOGINS = 20
SEVERITY, LEVEL = 4, "low"
MAX_VALUE = 200  # characters of a name that are told apart

USER_ON_HOST, NETWORK_OF_USER, HOUR_OF_USER, SHAPE = "user_on_host", "network_of_user", "hour_of_user", "message_shape"
COUNTRY_OF_USER = "country_of_user"
#: Kind: (rule id, title, tags, explanation).
KINDS = {
    USER_ON_HOST: (
        "threatlens-first-user-on-host", "First login of a user on a host", ("attack.initial-access", "attack.t1078"),
        "{user.name} logged in on {host.name} for the first time since ThreatLens began to learn who works there.",
    ),
    NETWORK_OF_USER: (
        "threatlens-first-network-of-user", "Login from a new network", ("attack.initial-access", "attack.t1078"),
        "{user.name} logged in from {source.ip}; no login of this user came from that network before.",
    ),
    COUNTRY_OF_USER: (
        "threatlens-first-country-of-user", "Login from a new country", ("attack.initial-access", "attack.t1078"),
        "{user.name} logged in from {source.geo.country_iso_code}; no login of this user came from there before.",
    ),
    HOUR_OF_USER: (
        "threatlens-unusual-hour", "Login at an unusual hour", ("attack.initial-access", "attack.t1078"),
        "{user.name} logged in at an hour of the day (UTC) at which this user has never been seen to.",
    ),
    SHAPE: (
        "threatlens-new-message-shape", "New shape of message", (),
        "A message came that looks like none before it. No decoder knows it, so only its words say what it is.",
    ),
}  # fmt: skip


class Seen(NamedTuple):
    """One thing that is known, as it is stored."""

    kind: str
    scope: str  # the host, the user or the source that it is new for
    value: str
    first_us: int
    last_us: int
    n: int


class Novelty:
    """Remembers what was seen and says what is new. For one thread."""

    def __init__(self, *, learning_us: int = LEARNING_US, max_known: int = MAX_KNOWN) -> None:
        self._learning_us = learning_us
        self._max = max_known
        self._known: OrderedDict[tuple[str, str, str], list[int]] = OrderedDict()  # [first_us, last_us, n]
        self._touched: set[tuple[str, str, str]] = set()

    def restore(self, rows: Iterable[Seen]) -> None:
        """Go back to what is stored, the least recent first."""
        self._known = OrderedDict(
            ((row.kind, row.scope, row.value), [row.first_us, row.last_us, row.n]) for row in rows
        )
        self._touched = set()

    def changes(self) -> list[Seen]:
        """What has changed since the last call, to be stored with the batch."""
        touched, self._touched = self._touched, set()
        return [Seen(*key, *self._known[key]) for key in sorted(touched) if key in self._known]

    def look(self, decoded: Decoded, at_us: int, template_id: int, source: str, position: int) -> list[RuleMatch]:
        """What is new about one event."""
        if template_id:
            new = self._saw(SHAPE, source, str(template_id), at_us)
            return [_match(SHAPE, decoded, at_us, position)] if new else []
        get = decoded.fields.get
        if get("event.outcome") != "success" or get("event.category") != "authentication":
            return []
        user = get("user.name")
        if not isinstance(user, str):
            return []
        user, host, address = user[:MAX_VALUE], get("host.name"), get("source.ip")
        found = []
        if isinstance(host, str) and self._saw(USER_ON_HOST, host[:MAX_VALUE], user, at_us):
            found.append(USER_ON_HOST)
        network = _network(str(address))
        if network and self._saw(NETWORK_OF_USER, user, network, at_us):
            found.append(NETWORK_OF_USER)
        country = get("source.geo.country_iso_code")  # where files of places are given
        if isinstance(country, str) and self._saw(COUNTRY_OF_USER, user, country[:MAX_VALUE], at_us):
            found.append(COUNTRY_OF_USER)
        hour = at_us // 3_600_000_000 % 24
        usual = self._usual(user, hour)
        if self._saw(HOUR_OF_USER, user, f"{hour:02}", at_us) and not usual:
            found.append(HOUR_OF_USER)
        return [_match(kind, decoded, at_us, position) for kind in found]

    def _saw(self, kind: str, scope: str, value: str, at_us: int) -> bool:
        """Remember it; whether it is new for a scope that is known long enough."""
        known = self._touch((kind, scope, value), at_us)
        began = self._touch((kind, scope, ""), at_us)  # the scope itself
        return known[2] == 1 and at_us - began[0] >= self._learning_us

    def _touch(self, key: tuple[str, str, str], at_us: int) -> list[int]:
        row = self._known.get(key)
        if row is None:
            row = self._known[key] = [at_us, at_us, 0]
            while len(self._known) > self._max:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
            row[0], row[1] = min(row[0], at_us), max(row[1], at_us)
        row[2] += 1
        self._touched.add(key)
        return row

    def _usual(self, user: str, hour: int) -> bool:
        """Whether this user logs in about then, or is not known well enough to tell."""
        all_of = self._known.get((HOUR_OF_USER, user, ""))
        near = (f"{(hour + shift) % 24:02}" for shift in (-1, 0, 1))
        few = all_of is None or all_of[2] < MIN_LOGINS
        return few or any((HOUR_OF_USER, user, about) in self._known for about in near)


@lru_cache(maxsize=10_000)
def _network(address: str) -> str:
    """The /24 or /48 of an address; "" for none."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    return str(ipaddress.ip_network((parsed, 24 if parsed.version == 4 else 48), strict=False))


def _match(kind: str, decoded: Decoded, at_us: int, position: int) -> RuleMatch:
    rule_id, title, tags, _ = KINDS[kind]
    get = decoded.fields.get
    who = [value if isinstance(value, str) else None for value in map(get, ("source.ip", "user.name", "host.name"))]
    return RuleMatch(
        rule_id, title, LEVEL, SEVERITY, "novelty", at_us, at_us, 1, (), who[0], who[1], who[2], tags, (position,)
    )
