"""What may come next in a query: names of fields, and values that are known of them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from threatlens.clock import now_us
from threatlens.event import EventFilter
from threatlens.event_match import ALIASES
from threatlens.web.auth import actor, may_know
from threatlens.web.context import services

MOST = 12
DAY_US = 86_400_000_000
_LAST = re.compile(
    r"(?P<sign>[-!]?)(?P<name>[A-Za-z_][\w.]*)(?P<operator>>=|<=|[:=<>])(?P<value>[^\s()\"]*)$|(?P<word>\S*)$"
)
FIELDS = (*(name for name in ALIASES if name != "sev"), "has", "after", "before", "http.request.method")
TIMES = ("-15m", "-1h", "-24h", "-7d")
OUTCOMES = ("failure", "success")


def completions(text: str) -> list[tuple[str, str]]:
    """The last term completed, several ways, each with the whole query; none where nothing fits."""
    match = _LAST.search(text)
    if match is None:
        return []
    if match["name"] is None:
        sign = match["word"][:1] if match["word"][:1] in ("-", "!") else ""
        begun = match["word"][len(sign) :].lower()
        found = [f"{sign}{name}{':' if name != 'severity' else '>='}" for name in FIELDS if name.startswith(begun)]
    else:
        start = f"{match['sign']}{match['name']}{match['operator']}"
        done, _, begun = match["value"].rpartition(",")
        found = [
            f"{start}{done}{',' if done else ''}{_written(value)}"
            for value in values_of(match["name"].lower(), begun.lower())
            if value.lower().startswith(begun.lower())
        ]
    head = text[: match.start()]
    return [(each, head + each) for each in found if each != text[match.start() :]][:MOST]


def values_of(name: str, begun: str = "") -> Iterable[str]:
    """Values that a field is known to have."""
    store = services().store
    if name in ("severity", "sev"):
        return map(str, range(1, 11))
    if name in ("after", "before"):
        return TIMES
    if name == "has":
        return [alias for alias in FIELDS if alias not in ("has", "after", "before")]
    if name in ("outcome", "event.outcome"):
        return OUTCOMES
    if name == "source":
        return sorted(source.source_name for source in store.sources() if may_know(source.source_name))
    if actor().sources:
        return ()  # what is known of values is known of all sources together
    if name in ("category", "format"):
        return store.known_names(name)
    if name in ("ip", "src", "source.ip"):
        return [row[0] for row in store.top_addresses(start_us=now_us() - DAY_US, limit=50)]
    if name in ("user", "user.name"):
        return store.known_users(begun, MOST)
    fields = ALIASES.get(name, (name,))
    seen: dict[str, None] = {}
    for event in store.page(EventFilter(), limit=100):
        seen.update((str(event.fields[field]), None) for field in fields if field in event.fields)
    return sorted(seen)


def _written(value: str) -> str:
    """A value as a query has it: in quotes where it must."""
    if re.fullmatch(r"[^\s,()\"\\]+", value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
