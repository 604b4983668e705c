"""The Common Log Format and its descendants, which nginx and Apache share.

Quoted parts are read by their escaping rules: what a client sends cannot end a quote, so the status stands where the
server wrote it. The user name is the client's claim; the time behind it is the first one that a quote follows. The
message is the line without ident, name and time: who asked for what, and what came of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from threatlens.decoders.base import ADDRESSES, Quick, compiled, put_address
from threatlens.decoders.times import Clock
from threatlens.event import Decoded, Fields

_QUOTED = r'"([^"\\]*(?:\\.[^"\\]*)*)"'
_REQUEST = r'"(?:([A-Z]{2,20}) ([^\s"\\]*(?:\\.[^\s"\\]*)*)(?: HTTP/([0-9.]{1,4}))?"|([^"\\]*(?:\\.[^"\\]*)*)")'
_TIME = r"\[([0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:[0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4})\]"
_LINE = compiled(
    rf"(\S+) (\S+) (\S+|.*?) {_TIME} {_REQUEST} ([0-9]{{3}}) ([0-9]{{1,15}}|-)(?: {_QUOTED} {_QUOTED})?"
).match


def match(line: str) -> re.Match[str] | None:
    """Groups: client, ident, user, time, method, url, version, other request, status, bytes, referrer, agent."""
    return _LINE(line) if '] "' in line else None  # else a name with blanks is looked for in all of a long line


#: What nearly all lines are: no ident, no blanks in the name, a well-formed request. For lines without a backslash,
#: whose quotes then end where the next one stands.
PLAIN = compiled(
    r"([^ ]++) - ([^ ]++) \[([^\]]{26})\] \"([A-Z]{2,20}+) ([^ \"]++) HTTP/([0-9.]{1,4}+)\" ([0-9]{3}) ([0-9]{1,15}+)"
    r" \"([^\"]*+)\" \"([^\"]*+)\""
).match
_new = tuple.__new__  # as for every line
_TIME_TEXT = compiled(_TIME.replace(r"\[", "").replace(r"\]", "").strip("()")).fullmatch


class _Begun(dict[str, Fields]):
    """Status -> what is true of all lines with it, with places for what all lines have; each line gets a copy."""

    def __missing__(self, status: str) -> Fields:
        code = int(status)
        fields: Fields = {
            "event.category": "web",
            "event.action": "http_request",
            "event.outcome": "failure" if code >= 400 else "success",
            "http.response.status_code": code,
            "source.ip": "",
            "http.request.method": "",
            "url.original": "",
            "http.version": "",
            "http.response.body.bytes": 0,
        }
        self[status] = fields
        return fields


_BEGUN: Mapping[str, Fields] = _Begun()


def read_plain(found: re.Match[str], clock: Clock) -> tuple[int | None, int, str, Fields] | None:
    """What a match of PLAIN says: time, flags, message, fields. None: look closer."""
    client, user, time, method, url, version, status, size, referrer, agent = found.groups()
    moment = clock.known.get(time)
    if moment is None:
        if _TIME_TEXT(time) is None:
            return None
        moment = clock.clf(time)
    address = ADDRESSES[client]
    if not address:
        return None
    fields = _BEGUN[status].copy()
    fields["source.ip"] = address
    fields["http.request.method"] = method
    fields["url.original"] = url
    fields["http.version"] = version
    fields["http.response.body.bytes"] = int(size)
    if user != "-":
        fields["user.name"] = user
    if agent != "-":
        fields["user_agent.original"] = agent
    if referrer != "-":
        fields["http.request.referrer"] = referrer
    return moment[0], moment[1], f"{client} {found.string[found.end(3) + 2 :]}", fields


def quick(name: str) -> Quick:
    """Reads what nearly all lines are, as those of this format."""

    def read_line(line: str, clock: Clock) -> Decoded | None:
        found = PLAIN(line) if "\\" not in line else None
        plain = read_plain(found, clock) if found is not None else None
        if plain is None or plain[0] is None or plain[0] > clock.latest_us:
            return None
        timestamp_us, flags, message, fields = plain
        return _new(Decoded, (name, timestamp_us, message, fields, flags))

    return read_line


def read(found: re.Match[str], clock: Clock) -> tuple[int | None, int, str, Fields]:
    """What a match of LINE says: time, flags, message, fields."""
    client, _, user, time, method, url, version, other, status, size, referrer, agent = found.groups()
    code = int(status)
    fields: Fields = {
        "event.category": "web",
        "event.action": "http_request",
        "event.outcome": "failure" if code >= 400 else "success",
        "http.response.status_code": code,
    }
    address = ADDRESSES[client]
    if address:
        fields["source.ip"] = address
    else:
        put_address(fields, "source", client)
    if user and user not in {"-", '""'}:
        fields["user.name"] = user
    if method is not None:
        fields["http.request.method"] = method
        fields["url.original"] = url
        if version is not None:
            fields["http.version"] = version
    elif other and other != "-":
        _split_request(other, fields)
    if size != "-":
        fields["http.response.body.bytes"] = int(size)
    if agent is not None:
        if agent != "-":
            fields["user_agent.original"] = agent
        if referrer != "-":
            fields["http.request.referrer"] = referrer
    timestamp_us, flags = clock.known.get(time) or clock.clf(time)
    return timestamp_us, flags, f"{client} {found.string[found.end(4) + 2 :]}", fields


def _split_request(text: str, fields: Fields) -> None:
    """A request line that is not "METHOD target HTTP/x": blanks in the target, lower case, or no HTTP at all."""
    method, _, rest = text.partition(" ")
    target, _, version = rest.rpartition(" HTTP/")
    if target and method.isalpha():
        fields["http.request.method"] = method
        fields["url.original"] = target
        fields["http.version"] = version
    else:
        fields["url.original"] = text
