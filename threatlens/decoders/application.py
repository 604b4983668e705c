"""Applications that write logs of their own: a time or none, and sentences. One row per kind of sentence.

A line is chosen by a word that stands near its beginning (a class of the program, a fixed part of a sentence) and then
has to fit a row as a whole, without its time. So a line costs the same however many applications are known, and the
same row reads it in a file, in syslog and in a container's output.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from threatlens.decoders.base import LineDecoder, Open, Opened, compiled
from threatlens.decoders.levels import LEVELS
from threatlens.decoders.tables import Row, row
from threatlens.decoders.times import Clock
from threatlens.event import TIME_ERROR, Fields

#: Words are looked for in so much of a line.
_LOOKED_AT = 240
_MAX_READ = 16_384
_HMS = r"[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:[.,:][0-9]{1,9})?"
_ZONE = r"(?: ?(?:Z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2})(?!:?[0-9]))?"
_ISO = rf"[0-9]{{4}}[-/.][0-9]{{2}}[-/.][0-9]{{2}}(?:T| - |,? {{1,2}}|[-_]){_HMS}{_ZONE}"
_DAY_FIRST = (
    r"[0-9]{1,2}[-/ .](?:[0-9]{2}|[A-Z][a-z]{2})[-/ .](?:[0-9]{4}|[0-9]{2})(?:, | |:|-|T)"
    rf"{_HMS}{_ZONE}(?: [AP]M)?"
)
_MONTH_FIRST = (
    rf"(?:[A-Z][a-z]{{2}},? )?[A-Z][a-z]{{2}} {{1,2}}[0-9]{{1,2}},? (?:[0-9]{{4}},? )?{_HMS}(?: [AP]M)?"
    r"(?: (?:[A-Z]{3,4} )?[0-9]{4})?"
)
#: What stands before the time, the time, the rest.
_HEAD = compiled(
    rf"([^0-9]{{0,24}}?|\[Nest\] {{1,2}}[0-9]{{1,7}} {{1,4}}- {{1,2}})({_ISO}|{_DAY_FIRST}|{_MONTH_FIRST})(.*)"
).fullmatch
#: pm2 puts the time, the number and the name of the process in front: "11:47:34 1|app  | text".
_PM2 = compiled(r"[0-9:]{8} [0-9]{1,5}\|[\w.-]{1,40} {0,20}\| {0,4}(.*)").fullmatch
_LEVEL = compiled(
    r"[^A-Za-z]{0,12}(?:[\w.:-]{1,80}[\]) ]{1,3}\[?)??"
    r"(TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL|CRITICAL|CRIT|DBG|INF|WRN|ERR|FTL|Trace|Debug|Info|Warn|Warning"
    r"|Error|Fatal|trace|debug|info|warn|warning|error|fatal|[WIEFD])(?![\w.-])"
).match
_SYSLOG = compiled(r"[A-Z][a-z]{2} {1,2}[0-9]{1,2} [0-9:]{8}").fullmatch
_COLOUR = compiled(r"\x1b\[[0-9;]{0,12}m").sub
_AHEAD = " ]|:,)-\t"

#: An address, bare, in brackets or mapped.
IP = r"\[?(?P<src>(?:[0-9]{1,3}\.){3}[0-9]{1,3}|[0-9a-fA-F]{0,4}:[0-9a-fA-F:.]{0,60}[0-9a-fA-F:])\]?"
PORT = r"(?::(?P<sport>[0-9]{1,5}))?"
#: A level, a process, a class: in brackets, capitalised, or with dots.
ANY = r"(?:(?:\[[^\]]{1,100}\]|[A-Z][A-Za-z]{2,12}|[\w.]{1,80}\.[\w.]{1,80})[ :|-]{1,3}){0,6}?"


def failed(pattern: str, *, level: str = "") -> Row:
    """A sign-in that was refused."""
    return row(pattern, "login", "failure", level=level)


def accepted(pattern: str) -> Row:
    """A sign-in that succeeded."""
    return row(pattern, "login", "success")


class _Kept(dict[int, int]):
    """Characters of words stay, all others become blanks."""

    def __missing__(self, code: int) -> int:
        char = chr(code)
        kept = code if char.isalnum() or char in "_.-" else 32
        if len(self) < 4096:
            self[code] = kept
        return kept


_KEPT: Mapping[int, int] = _Kept()


def words_of(line: str) -> list[str]:
    """The words near the beginning of a line, without dots around them."""
    return (line[:_LOOKED_AT].translate(_KEPT) + " ").replace(". ", " ").split()


def head_of(line: str) -> tuple[str, str, str]:
    """What stands before the line's time, the time ("" for none), and the text behind it."""
    found = _HEAD(line)
    if found is None:
        within = _PM2(line)
        if within is None:
            return "", "", line
        found = _HEAD(within[1])
        if found is None:
            return "", "", within[1]
    before, time, rest = found.groups()
    if not before and _SYSLOG(time):
        return "", "", line  # an envelope's time
    return before, time, rest.lstrip(_AHEAD)


def opened(name: str, line: str, before: str, time: str, text: str, fields: Fields, clock: Clock) -> Opened:
    """A line read so far, with its time and level."""
    timestamp_us, flags = clock.any(time.replace(" - ", " ")) if time else (None, TIME_ERROR)
    level = _LEVEL(before) or _LEVEL(text)
    if level is not None and "log.level" not in fields:
        fields["log.level"] = LEVELS.get(level[1]) or level[1].lower()
    return name, timestamp_us, flags, "", text if time else line, fields


def _opener(rows: Mapping[str, Sequence[tuple[str, Row]]]) -> Open:
    """Opens lines by rows with their owners' names, under the words that choose them."""
    chosen_by = frozenset(rows)

    def open_line(line: str, clock: Clock) -> Opened | None:
        if len(line) > _MAX_READ:
            return None
        if "\x1b[" in line:
            line = _COLOUR("", line)
        words = words_of(line)
        if chosen_by.isdisjoint(words):
            return None
        before, time, text = head_of(line)
        fields: Fields = {}
        for word in words:
            for name, kind in rows.get(word, ()):
                if kind.read(text, fields):
                    return opened(name, line, before, time, text, fields, clock)
        return None

    return open_line


class Application:
    """The rows of one application, under the words of which one stands in every line of theirs."""

    __slots__ = ("about", "name", "rows")

    def __init__(self, name: str, about: str, rows: Mapping[str, Iterable[Row]]) -> None:
        self.name = name
        self.about = about
        self.rows = [(word, row) for words, group in rows.items() for row in group for word in words.split()]

    def decoder(self) -> LineDecoder:
        """The member of the family: found by `members`' first one, or when it is configured."""
        return LineDecoder(name=self.name, about=self.about, open=_opener(_by_word([self])), leads=())


def _by_word(applications: Iterable[Application]) -> dict[str, list[tuple[str, Row]]]:
    found: dict[str, list[tuple[str, Row]]] = {}
    for application in applications:
        for word, kind in application.rows:
            found.setdefault(word, []).append((application.name, kind))
    return found


def members(first: Application, applications: Sequence[Application]) -> tuple[LineDecoder, ...]:
    """Applications as members of the family; `first` finds the lines of all."""
    finder = LineDecoder(
        name=first.name,
        about=first.about,
        open=_opener(_by_word([first, *applications])),
        leads=("0", "A", "a", "[", "(", "<", "*", " ", "/", "%", "#", "\x1b"),
    )
    return finder, *(application.decoder() for application in applications)
