"""One JSON object per line: ECS documents, container logs, journald exports, and what loggers write.

ECS names and the usual aliases become ECS fields, their values checked; every other key goes under "json.", so that
no key can pose as something of ours. A key given twice is flagged and the last one wins. Numbers that a 64-bit
integer or a float cannot hold are kept as text. Objects nest to names with dots; what lies deeper than MAX_DEPTH is
left in the raw line and flagged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import orjson

from threatlens.decoders.base import (
    ADDRESSES,
    ANY_PROGRAM,
    MAX_FIELDS,
    UNKNOWN,
    LineDecoder,
    ObjectDecoder,
    Open,
    Opened,
    ReadObject,
    put_address,
)
from threatlens.decoders.exact_json import load_exactly, quotes
from threatlens.decoders.json_straight import Member, Often, Put
from threatlens.decoders.levels import LEVELS
from threatlens.decoders.priority import LEVELS as SYSLOG_LEVELS
from threatlens.decoders.times import Clock, Moment
from threatlens.event import FIELDS_CUT, TIME_ERROR, Fields

NAME = "json"
MAX_DEPTH = 8
_MAX_EXACT, _MAX_WHOLE = 2.0**53, 2**53
_MIN_EXACT, _MIN_WHOLE = -_MAX_EXACT, -_MAX_WHOLE
_BUNYAN = {10: "trace", 20: "debug", 30: "info", 40: "warning", 50: "error", 60: "critical"}


def _number(name: str, highest: int) -> Put:
    def put(fields: Fields, value: object) -> None:
        if type(value) is int:
            if 0 <= value <= highest:
                fields[name] = value
            return
        if isinstance(value, str) and len(value) <= 18 and value.isdecimal():
            value = int(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= highest:
            fields[name] = int(value)

    return put


def _address(side: str) -> Put:
    name = side + ".ip"
    client = side == "client"  # which is where events of requests come from

    def put(fields: Fields, value: object) -> None:
        if isinstance(value, str) and value:
            if address := ADDRESSES[value]:
                fields[name] = address
                if client:
                    fields.setdefault("source.ip", address)
            else:
                put_address(fields, side, value)

    return put


def _level(fields: Fields, value: object) -> None:
    if type(value) is str:
        fields["log.level"] = LEVELS.get(value) or LEVELS.get(word := value.lower()) or word
    elif isinstance(value, int) and value in _BUNYAN:
        fields["log.level"] = _BUNYAN[value]


def _priority(fields: Fields, value: object) -> None:
    if isinstance(value, str) and len(value) == 1 and value in "01234567":
        fields["log.level"] = SYSLOG_LEVELS[int(value)]


def _outcome(fields: Fields, value: object) -> None:
    if value in ("success", "failure", "unknown"):
        fields["event.outcome"] = str(value)


_PORT = 65535
_BIG = 2**63 - 1
_PLAIN = [
    "event.category",
    "event.action",
    "event.type",
    "event.kind",
    "event.code",
    "event.reason",
    "event.dataset",
    "event.module",
    "event.provider",
    "host.hostname",
    "process.name",
    "process.executable",
    "process.command_line",
    "process.parent.name",
    "process.parent.executable",
    "process.parent.command_line",
    "process.working_directory",
    "user.name",
    "user.id",
    "user.domain",
    "user.email",
    "user.target.name",
    "user.effective.name",
    "group.name",
    "group.id",
    "source.domain",
    "destination.domain",
    "client.domain",
    "server.domain",
    "network.transport",
    "network.protocol",
    "network.direction",
    "network.type",
    "http.request.method",
    "http.request.referrer",
    "http.version",
    "url.original",
    "url.full",
    "url.path",
    "url.query",
    "url.domain",
    "url.scheme",
    "user_agent.original",
    "file.path",
    "file.name",
    "file.hash.sha256",
    "file.hash.md5",
    "dns.question.name",
    "dns.question.type",
    "service.name",
    "service.type",
    "log.logger",
    "error.message",
    "error.type",
    "error.stack_trace",
    "trace.id",
    "transaction.id",
    "container.id",
    "container.name",
    "rule.name",
    "rule.id",
]
_MESSAGES = ("message", "msg", "MESSAGE", "short_message", "log", "event")
_TIMES = ("@timestamp", "timestamp", "time", "ts", "datetime", "date", "__REALTIME_TIMESTAMP", "asctime", "t")
#: Key, as it stands or with the dots of its nesting -> the field of text that it sets; "" for what is read elsewhere.
_TEXTS: dict[str, str] = {
    **dict.fromkeys((*_TIMES, *_MESSAGES), ""),
    **{name: name for name in _PLAIN},
    "host": "host.name", "hostname": "host.name", "_HOSTNAME": "host.name", "host.name": "host.name",
    "SYSLOG_IDENTIFIER": "process.name", "_EXE": "process.executable", "_CMDLINE": "process.command_line",
    "_SYSTEMD_UNIT": "service.name", "logger": "log.logger", "logger_name": "log.logger", "component": "log.logger",
    "user": "user.name", "username": "user.name", "remote_user": "user.name", "method": "http.request.method",
    "request_method": "http.request.method", "request_uri": "url.original", "uri": "url.original",
    "url": "url.original", "path": "url.path", "http_user_agent": "user_agent.original",
    "user_agent": "user_agent.original", "http_referer": "http.request.referrer", "error": "error.message",
    "err": "error.message", "stream": "log.iostream",
}  # fmt: skip
#: The same for keys whose values are checked.
_CHECKED: dict[str, Put] = {
    **{name: _address(name.partition(".")[0]) for name in ("source.ip", "source.address", "destination.ip",
                                                           "destination.address", "client.ip", "server.ip")},
    **{name: _number(name, _PORT) for name in ("source.port", "destination.port", "client.port", "server.port")},
    **{name: _number(name, _BIG) for name in ("process.pid", "process.parent.pid", "process.exit_code", "source.bytes",
                                              "destination.bytes", "http.response.body.bytes",
                                              "http.request.body.bytes",
                                              "network.bytes", "file.size")},
    "http.response.status_code": _number("http.response.status_code", 999), "event.outcome": _outcome,
    "log.level": _level, "level": _level, "levelname": _level, "severity": _level, "lvl": _level, "PRIORITY": _priority,
    "pid": _number("process.pid", _BIG), "_PID": _number("process.pid", _BIG),
    "remote_addr": _address("source"), "remote_ip": _address("source"), "client_ip": _address("source"),
    "clientip": _address("source"), "src_ip": _address("source"), "source_ip": _address("source"),
    "remote_port": _number("source.port", _PORT), "src_port": _number("source.port", _PORT),
    "dest_ip": _address("destination"), "dst_ip": _address("destination"),
    "dest_port": _number("destination.port", _PORT), "dst_port": _number("destination.port", _PORT),
    "status": _number("http.response.status_code", 999), "status_code": _number("http.response.status_code", 999),
    "body_bytes_sent": _number("http.response.body.bytes", _BIG),
}  # fmt: skip
_TAKEN_TIMES = frozenset(_TIMES)
_BEGINNINGS = ('{"', "{ ", "{}", "{\t")
_MAX_NAME = 256
_MAX_LAYOUTS, _MAX_PRODUCTS, _MAX_LEFT = 1_000, 10_000, 100
_MAX_KEPT_NAMES, _MAX_KEPT_CHARS = 100, 2_000
#: Docker cuts a line behind so many bytes; what is shorter and has no newline was written like that.
_DOCKER_PART = 16_000


class _Layouts(dict[tuple[str, ...], tuple[Member, ...]]):
    """A prefix and the names of members -> what they are. Most objects of a log have the same names; bounded."""

    def __missing__(self, key: tuple[str, ...]) -> tuple[Member, ...]:
        prefix, *names = key
        layout = tuple(_member(prefix + name) for name in names)
        if len(self) >= _MAX_LAYOUTS:
            self.clear()
        if is_worth_keeping(key):
            self[key] = layout
        return layout


def _member(name: str) -> Member:
    return name, _TEXTS.get(name), _CHECKED.get(name), "json." + name if len(name) <= _MAX_NAME else ""


def is_worth_keeping(names: tuple[str, ...]) -> bool:
    """Whether what is known about these names may be remembered: a log can make up many and long ones."""
    return len(names) <= _MAX_KEPT_NAMES and sum(map(len, names)) <= _MAX_KEPT_CHARS


_LAYOUTS: Mapping[tuple[str, ...], tuple[Member, ...]] = _Layouts()


class Products(dict[tuple[str, ...], tuple[ObjectDecoder, ...]]):
    """Names of an object's members -> the decoders of objects that have all of theirs among them; bounded."""

    def __init__(self, members: Sequence[ObjectDecoder]) -> None:
        super().__init__()
        self._members = [(frozenset(member.keys), member) for member in members]

    def __missing__(self, names: tuple[str, ...]) -> tuple[ObjectDecoder, ...]:
        present = frozenset(names)
        found = tuple(member for keys, member in self._members if keys <= present)
        if len(self) >= _MAX_PRODUCTS:
            self.clear()
        if is_worth_keeping(names):
            self[names] = found
        return found


#: Of a product: its name, how it reads objects of a shape, the members that may hold the time before others, the
#: program whose readers go on, `only` and `refused`.
_Product = tuple[str, ReadObject, tuple[str, ...], str, str, AbstractSet[str]]


class _Shape(NamedTuple):
    """What the names of an object's members decide."""

    layout: tuple[Member, ...]
    products: tuple[_Product, ...]
    only: str  # the member by whose text the first of these know theirs, if one does
    left: dict[str, tuple[_Product, ...]]  # such a text -> those that have not refused it
    times: tuple[str, ...]
    messages: tuple[str, ...]
    carries: bool  # what a program wrote, as Docker and the journal do
    often: Often


class _Shapes(dict[tuple[str, ...], _Shape]):
    """Names of an object's members -> what they decide; bounded."""

    def __init__(self, members: Sequence[ObjectDecoder]) -> None:
        super().__init__()
        self._products = Products(members)

    def __missing__(self, names: tuple[str, ...]) -> _Shape:
        found = self._products[names]
        layout = _LAYOUTS["", *names]
        shape = _Shape(
            layout,
            tuple(
                (
                    member.name,
                    member.read_like(names) if member.read_like is not None else member.read,
                    tuple(time for time in member.times if time in names or "." in time),
                    member.program,
                    member.only,
                    member.refused,
                )
                for member in found
            ),
            found[0].only if found else "",
            {},
            tuple(name for name in _TIMES if name in names),
            tuple(name for name in _MESSAGES if name in names),
            "stream" in names or "__REALTIME_TIMESTAMP" in names,
            Often(layout, _TAKEN_TIMES),
        )
        if len(self) >= _MAX_LAYOUTS:
            self.clear()
        if is_worth_keeping(names):
            self[names] = shape
        return shape


def _not_refused(shape: _Shape, text: str) -> tuple[_Product, ...]:
    """The products of a shape without the first ones that have said this text of `only` is none of theirs."""
    products = shape.products
    while products and products[0][4] == shape.only and text in products[0][5]:
        products = products[1:]
    if len(products) < len(shape.products):
        if len(shape.left) >= _MAX_LEFT:
            shape.left.clear()
        shape.left[text] = products
    return products


def opener(products: Sequence[ObjectDecoder]) -> Open:
    """Makes the Open of lines that are JSON objects, those of these products among them."""
    shapes: Mapping[tuple[str, ...], _Shape] = _Shapes(products)

    def open_line(line: str, clock: Clock) -> Opened | None:
        """The object's time, message and fields. A line that starts as an object but is none is flagged."""
        if not line.startswith(_BEGINNINGS) and line != "{":
            return None
        flags = 0
        try:
            document = orjson.loads(line)
        except ValueError:
            document, flags = load_exactly(line)
            if document is None:
                return UNKNOWN, None, flags, "", line, {}
        shape = shapes[tuple(document)]
        fields: Fields = {}
        often = shape[7]
        cut = inexact = False
        if often.read is None or (texts := often.read(document, fields)) < 0:
            often.again()
            fields = {}
            texts, cut, inexact = flatten(document, fields, shape[0])
        if not flags and (inexact or (line.count('"') != 2 * texts and quotes(line) != 2 * texts)):
            exact, flags = load_exactly(line)
            if exact is not None:
                document = exact
                shape = shapes[tuple(document)]
                fields = {}
                _, cut, _ = flatten(document, fields, shape[0])
        if cut:
            flags |= FIELDS_CUT
        _, asked, only, left, usual_times, _, _, _ = shape
        if only and type(text := document.get(only)) is str:
            asked = left[text] if text in left else _not_refused(shape, text)
        for product, read, times, program, only, refused in asked:
            if only and type(text := document.get(only)) is str and text in refused:
                continue
            message = read(document, fields)
            if message is not None:
                moment = _time(document, clock, times) if times else _first_time(document, usual_times, clock)
                if not message:
                    message = _message(document, fields, shape)[0] or line
                return product, moment[0], flags | moment[1], program, message, fields
        timestamp_us, time_flags = _first_time(document, usual_times, clock)
        said, program = _message(document, fields, shape)
        return NAME, timestamp_us, flags | time_flags, program, said if said is not None else line, fields

    return open_line


def flatten(
    document: dict[str, Any], fields: Fields, layout: tuple[Member, ...] | None = None
) -> tuple[int, bool, bool]:
    """Put the members into fields. Gives the number of keys and strings, whether something was left out, and whether a
    number may have lost digits. `layout`: of the object's own members, if it is known."""
    texts = 0
    cut = inexact = False
    depth, members = 1, document
    waiting: list[tuple[str, int, dict[str, Any]]] = []
    if layout is None:
        layout = _LAYOUTS["", *document]
    while True:
        texts += len(members)
        for (name, text_name, put, other), value in zip(layout, members.values()):  # noqa: B905  (costs a tenth)
            kind = type(value)
            if kind is str:
                texts += 1
                if text_name is not None:
                    if text_name:
                        fields[text_name] = value
                    continue
            elif kind is dict:
                if depth < MAX_DEPTH:
                    waiting.append((name + ".", depth + 1, value))
                else:
                    cut = True
                    texts += _count_texts(value)
                continue
            elif kind is list:
                texts += _count_texts(value)
                value = [item if isinstance(item, str) else _as_text(item) for item in value[:MAX_FIELDS]]  # noqa: PLW2901
                if value and text_name:
                    fields[text_name] = value[0]
                    continue
            elif value is None or name in _TAKEN_TIMES:
                continue
            elif kind is float:
                if not _MIN_EXACT < value < _MAX_EXACT:
                    inexact = True
            elif not _MIN_WHOLE < value < _MAX_WHOLE:  # to compare with a float would take twice as long
                inexact = True
            if put is not None:
                put(fields, value)
            elif other and len(fields) < MAX_FIELDS:
                fields[other] = value
            else:
                cut = True
        if not waiting:
            return texts, cut, inexact
        prefix, depth, members = waiting.pop()
        layout = _LAYOUTS[prefix, *members]


def _count_texts(value: object) -> int:
    texts = 0
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            texts += len(value)
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, str):
            texts += 1
    return texts


def _as_text(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # nested deeper, or larger, than can be written back
        return "..."


def _message(document: dict[str, Any], fields: Fields, shape: _Shape) -> tuple[str | None, str]:
    """The text that the object carries, and the program that wrote it if that says how to read on."""
    if shape.carries:
        if "stream" in document and isinstance(log := document.get("log"), str):  # Docker's json-file
            if len(log) >= _DOCKER_PART and not log.endswith("\n"):
                fields["log.partial"] = True
            return log.rstrip("\r\n"), ANY_PROGRAM
        if "__REALTIME_TIMESTAMP" in document and isinstance(
            text := document.get("MESSAGE"), str
        ):  # journalctl -o json
            return text, str(fields.get("process.name", ""))
    for name in shape.messages:
        if type(text := document[name]) is str and text:
            return text, ""
    return None, ""


def _time(document: dict[str, Any], clock: Clock, first: Iterable[str]) -> Moment:
    """The time of the first of these members, dotted, that holds one; then of the usual ones."""
    for dotted in first:
        if dotted not in document and "." not in dotted:
            continue
        value: Any = document
        for name in (dotted,) if dotted in document else dotted.split("."):
            if isinstance(value, dict):
                value = value.get(name)
            elif isinstance(value, list) and name == "0" and value:
                value = value[0]
            else:
                value = None
        moment = _moment(value, clock)
        if moment[0] is not None:
            return moment
    return _first_time(document, [name for name in _TIMES if name in document], clock)


def _first_time(document: dict[str, Any], names: Iterable[str], clock: Clock) -> Moment:
    """The time of the first of these members that holds one."""
    for name in names:
        value = document[name]
        moment = clock.iso(value) if type(value) is str and value[4:5] == "-" else _moment(value, clock)
        if moment[0] is not None:
            return moment
    return None, TIME_ERROR


def _moment(value: Any, clock: Clock) -> Moment:
    if type(value) is str:
        return clock.iso(value) if value[4:5] == "-" else clock.any(value)
    return clock.epoch(value) if type(value) is int or type(value) is float else (None, TIME_ERROR)


def decoder(products: Sequence[ObjectDecoder]) -> LineDecoder:
    """The decoder of lines that are JSON objects."""
    return LineDecoder(
        name=NAME,
        about="One JSON object per line: ECS, Docker, journald, bunyan, pino, logrus and others.",
        open=opener(products),
        leads=("{",),
    )
