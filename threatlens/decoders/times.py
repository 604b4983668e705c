"""Reading times: what a line's own clock said, as microseconds since the epoch.

Times without a year get the latest year that does not put them more than a day ahead of the reading; times without
a zone are of the source's zone. Nothing here looks at a clock: the time of reading is told with every line.
"""

from __future__ import annotations

import datetime as dt
import re
from zoneinfo import ZoneInfo

from threatlens.event import TIME_CLAMPED, TIME_ERROR

DAY_US = 86_400_000_000
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_EPOCH_ORDINAL = dt.date(1970, 1, 1).toordinal()
_MICROSECOND = dt.timedelta(microseconds=1)
_FIRST_US = 0
_LAST_US = (dt.date(2101, 1, 1).toordinal() - _EPOCH_ORDINAL) * DAY_US - 1
_YEAR_WINDOW_S = 3600  # yearless times are decided anew this often
_MAX_CACHED = 20_000
_OFFSET_CHARS = len("2026-11-23T06:51:07.123456+00:00")
_KEPT_DIGITS = 3  # of fractions of a second: milliseconds are few enough to remember, microseconds are not
_MONTH_NAMES = (
    "jan ene gen jän janv sty oca янв",
    "feb fev fév févr lut şub фев",
    "mar mär mrz mrt mars märz marzo мар",
    "apr abr avr avri kwi nis апр",
    "may mai mag mei maj мая май",
    "jun juin giu cze haz июн",
    "jul juil lug lip tem июл",
    "aug ago aoû août sie ağu авг",
    "sep set sept wrz eyl сен",
    "oct okt ott out paź eki окт",
    "nov lis kas ноя",
    "dec dez dic déc dici gru ara дек",
)
#: Beginnings of the months' names, capitalised, in English and the languages that logs are written in beside it.
MONTHS = {name.capitalize(): number for number, names in enumerate(_MONTH_NAMES, start=1) for name in names.split()}
_NO_TIME = (None, TIME_ERROR)
_OFFSET = re.compile(r"([+-])([0-9]{2}):?([0-9]{2})?", re.ASCII)
_PARTS = re.compile(
    r"([0-9]{4})[-/.]?([0-9]{2})[-/.]?([0-9]{2})[T _-]?([0-9]{2})[:.]?([0-9]{2})[:.]?([0-9]{2})(?:[.,]([0-9]{1,9}))?"
    r" ?(Z|UTC|GMT|[+-][0-9]{2}:?(?:[0-9]{2})?)?",
    re.ASCII,
)

_AUDIT_ID = re.compile(r"([0-9]{9,11}\.[0-9]{3}):[0-9]{1,12}", re.ASCII)
_TAI64 = re.compile(r"@([0-9a-f]{16}(?:[0-9a-f]{8})?)", re.ASCII)
_TAI_AHEAD_S = 10  # what the libraries that write these add to Unix time, leap seconds or not
_MAX_TIME_CHARS = 64
_CLOCK = (
    r"(?P<H>[0-9]{1,2}):(?P<M>[0-9]{2})(?::(?P<S>[0-9]{2})(?:[.,:](?P<f>[0-9]{1,9}))?)?(?: ?(?P<p>[AaPp]\.?[Mm]\.?))?"
)
_ZONE = r"(?:,? ?\(?(?P<z>Z|UTC|GMT|[A-Z]{3,5}|(?:UTC|GMT)?[+-][0-9]{2}:?(?:[0-9]{2})?)\)?)?"
_THEN = r"(?:[ T-]|::?)"  # two colons: Erlang
_WEEKDAY = r"(?:[^\W\d_]{2,12}\.?,? )?"
_MONTH = r"(?P<m>[^\W\d_]{3,10})\.?"
#: Ways of writing a time, most usual first, and what is special about them.
_LAYOUTS = tuple(
    (re.compile(pattern), order)
    for pattern, order in (
        (rf"(?P<y>[0-9]{{4}})[-/.:](?P<m>[0-9]{{1,2}})[-/.:](?P<d>[0-9]{{1,2}})[T _:-]+{_CLOCK}{_ZONE}", "ymd"),
        (rf"{_WEEKDAY}{_MONTH} {{1,2}}(?P<d>[0-9]{{1,2}}),? {_CLOCK}{_ZONE}(?: (?P<y>[0-9]{{4}}))?", "md"),
        (rf"{_WEEKDAY}{_MONTH} {{1,2}}(?P<d>[0-9]{{1,2}}),? (?P<y>[0-9]{{4}}),? (?:at )?{_CLOCK}{_ZONE}", "mdy"),
        (
            rf"{_WEEKDAY}(?P<d>[0-9]{{1,2}})[ /.-]{_MONTH}[ /.-](?P<y>[0-9]{{4}}|[0-9]{{2}}),?{_THEN}{_CLOCK}{_ZONE}",
            "dmy",
        ),
        (rf"{_WEEKDAY}(?P<d>[0-9]{{1,2}})\.? {_MONTH} {_CLOCK}{_ZONE}(?: (?P<y>[0-9]{{4}}))?", "dm"),
        (rf"{_MONTH}-(?P<d>[0-9]{{1,2}})-(?P<y>[0-9]{{4}}|[0-9]{{2}}) {_CLOCK}{_ZONE}", "mdy"),
        (rf"(?P<m>[0-9]{{1,2}})/(?P<d>[0-9]{{1,2}})/(?P<y>[0-9]{{4}}|[0-9]{{2}}),?[ :T-]{_CLOCK}{_ZONE}", "mdy/"),
        (rf"(?P<d>[0-9]{{1,2}})[.-](?P<m>[0-9]{{1,2}})[.-](?P<y>[0-9]{{4}}),?[ :T-]{_CLOCK}{_ZONE}", "dmy"),
        (rf"(?P<y>[0-9]{{2}})[-/](?P<m>[0-9]{{2}})[-/](?P<d>[0-9]{{2}})[ T]{_CLOCK}{_ZONE}", "ymd"),
        (rf"(?P<y>[0-9]{{2}})(?P<m>[0-9]{{2}})(?P<d>[0-9]{{2}}) {{1,2}}{_CLOCK}{_ZONE}", "ymd"),
        (r"(?P<y>[0-9]{2})(?P<m>[0-9]{2})(?P<d>[0-9]{2}) (?P<H>[0-9]{2})(?P<M>[0-9]{2})(?P<S>[0-9]{2})", "ymd"),
        (rf"(?P<y>[0-9]{{4}})(?P<m>[0-9]{{2}})(?P<d>[0-9]{{2}})[T :_-]{_CLOCK}{_ZONE}", "ymd"),
        (rf"(?P<m>[0-9]{{2}})-(?P<d>[0-9]{{2}}) {_CLOCK}{_ZONE}", "md"),
        (rf"(?P<m>[0-9]{{2}})[./](?P<d>[0-9]{{2}}) {_CLOCK}{_ZONE}", "md"),
    )
)

#: A zone that is an offset from UTC, as learned from a source: "UTC+02:00".
FIXED_ZONE = re.compile(r"UTC([+-])([01][0-9]):([0-5][0-9])", re.ASCII)

#: A time and its flags; the time is None under TIME_ERROR.
Moment = tuple[int | None, int]


def month_number(name: str) -> int:
    """1 to 12 by a name or the beginning of one; 0 for no month."""
    name = name.strip(".").capitalize()
    return MONTHS.get(name[:4]) or MONTHS.get(name[:3], 0)


def zone_minutes(zone: str) -> int:
    """Minutes ahead of UTC of a fixed zone; 0 for any other text."""
    found = FIXED_ZONE.fullmatch(zone)
    return (int(found[2]) * 60 + int(found[3])) * (-1 if found[1] == "-" else 1) if found else 0


def is_zone(name: str) -> bool:
    """Whether the name, among those that a source has taught, is one of a zone: fixed, or IANA's with its place."""
    return "/" in name or FIXED_ZONE.fullmatch(name) is not None


def offset_minutes(zone: str, at_s: float) -> int:
    """Minutes that a zone is ahead of UTC at a time in seconds since the epoch; 0 for no zone."""
    if not zone or FIXED_ZONE.fullmatch(zone) is not None:
        return zone_minutes(zone)
    try:
        offset = dt.datetime.fromtimestamp(at_s, ZoneInfo(zone)).utcoffset()
    except (KeyError, OSError, OverflowError, ValueError):  # ZoneInfo raises by the kind of wrong name
        return 0
    return int(offset.total_seconds() // 60) if offset is not None else 0


def fixed_zone(minutes: int) -> str:
    """The zone that is so many minutes ahead of UTC."""
    return f"UTC{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"


class Clock:
    """The times of one source: its zone, its year if forced, and the time of reading."""

    def __init__(self, timezone: str = "UTC", year: int | None = None) -> None:
        """Raises ValueError or ZoneInfoNotFoundError (a KeyError) for what is no IANA zone and not like UTC+02:00."""
        fixed = FIXED_ZONE.fullmatch(timezone)
        self._shift_us = zone_minutes(timezone) * 60_000_000 if fixed else 0
        self._zone = None if fixed or timezone in {"UTC", "Etc/UTC", "GMT", "Z"} else ZoneInfo(timezone)
        self._year = year
        #: What texts have been read as, for decoders to look up before they call; emptied as time goes on.
        self.known: dict[str, Moment] = {}
        #: What stands before the process number in lines of syslog -> (timestamp_us, flags, host, program).
        self.heads: dict[str, tuple[int, int, str, str]] = {}
        self._days: dict[tuple[int, int, int], int] = {}
        self._midnights: dict[str, int] = {}  # beginnings of days as written, for times that need no zone
        self._seconds: dict[str, int] = {}  # beginnings of seconds as written, without "Z" or with an offset
        self._fractions: dict[str, int] = {}  # microseconds of ".123Z", for as few digits as _KEPT_DIGITS
        self._window = -1
        self.read_at_s = float("nan")  # never equal: the first line moves it
        self.read_at_us = 0
        self.latest_us = 0  # what lies beyond has not happened

    def move(self, read_at_s: float) -> None:
        """The time of reading is now this (seconds since the epoch)."""
        if read_at_s < self.read_at_s:
            self.heads.clear()  # what was no future then may be one
        self.read_at_s = read_at_s
        self.read_at_us = int(read_at_s * 1_000_000)
        self.latest_us = self.read_at_us + DAY_US
        window = int(read_at_s // _YEAR_WINDOW_S)
        if window != self._window:
            self._window = window
            self.known.clear()
            self.heads.clear()
            self._midnights.clear()

    def keep_head(self, text: str, head: tuple[int, int, str, str]) -> None:
        """Remember how a line begins."""
        if len(self.heads) >= _MAX_CACHED:
            self.heads.clear()
        self.heads[text] = head

    def _keep(self, text: str, moment: Moment) -> Moment:
        if len(self.known) >= _MAX_CACHED:
            self.known.clear()
            self._midnights.clear()
        self.known[text] = moment
        return moment

    def _keep_second(self, text: str, begun_us: int) -> None:
        if len(self._seconds) >= _MAX_CACHED:
            self._seconds.clear()
        self._seconds[text] = begun_us

    def bsd(self, text: str) -> Moment:
        """'Nov  3 06:51:07', with a fraction or not, with a year behind the day or at the end or without one."""
        moment = self.known.get(text)
        if moment is not None:
            return moment
        midnight_us = self._midnights.get(text[:7])
        if midnight_us is not None and len(text) == 15 and (inside_us := _inside_day_us(text[7:])) is not None:
            return self._keep(text, (midnight_us + inside_us, 0))
        moment = self._bsd_parts(text)
        if len(text) == 15 and self._zone is None and not moment[1] and moment[0] is not None:
            self._midnights[text[:7]] = moment[0] - (moment[0] + self._shift_us) % DAY_US
        return self._keep(text, moment)

    def _bsd_parts(self, text: str) -> Moment:
        month, day, *rest = text.replace(",", " ").split()
        year = next((int(word) for word in rest if len(word) == 4 and word.isdecimal()), None)
        clock = next((word for word in rest if ":" in word), "")
        number = month_number(month)
        second, _, fraction = clock.partition(".")
        hms = second.split(":")
        if not number or len(hms) != 3 or not day.isdecimal():
            return _NO_TIME
        microsecond = int((fraction + "000000")[:6]) if fraction.isdecimal() else 0
        h, m, s = (int(part) for part in hms)
        return self.wall(year, number, int(day), h, m, s, microsecond)

    def clf(self, text: str) -> Moment:
        """'23/Nov/2026:06:51:07 +0000', as access logs write it."""
        moment = self.known.get(text)
        if moment is not None:
            return moment
        day = text[:12] + text[20:]
        midnight_us = self._midnights.get(day)
        if midnight_us is not None and (inside_us := _inside_day_us(text[12:20])) is not None:
            return self._keep(text, (midnight_us + inside_us, 0))
        offset = self._offset(text[21:]) if len(text) > 21 else None
        h, m, s = int(text[12:14]), int(text[15:17]), int(text[18:20])
        moment = self.wall(int(text[7:11]), MONTHS.get(text[3:6], 0), int(text[:2]), h, m, s, 0, offset)
        if offset is not None and not moment[1] and moment[0] is not None and moment[0] >= DAY_US:
            self._midnights[day] = moment[0] - ((h * 60 + m) * 60 + s) * 1_000_000
        return self._keep(text, moment)

    def iso(self, text: str) -> Moment:
        """ISO 8601 and its neighbours: '2026-11-23T06:51:07.5Z', '2026/11/23 06:51:07', '2026-11-23 06:51:07,123'."""
        if len(text) == _OFFSET_CHARS:
            begun_us = self._seconds.get(text[:19] + text[26:])
            if begun_us is not None and text[19] == ".":
                fraction = text[20:26]
                if fraction.isdecimal() and fraction.isascii():
                    return begun_us + int(fraction), 0
        elif (begun_us := self._seconds.get(text[:19])) is not None:
            rest = text[19:]
            inside_us = self._fractions.get(rest)
            if inside_us is not None:
                return begun_us + inside_us, 0
            if rest[-1:] == "Z" and rest[:1] == "." and (fraction := rest[1:-1]).isdecimal():
                inside_us = int((fraction + "00000")[:6])
                if len(fraction) <= _KEPT_DIGITS and rest.isascii():
                    self._fractions[rest] = inside_us
                return begun_us + inside_us, 0
        try:
            moment = dt.datetime.fromisoformat(text)
        except ValueError:
            return self._iso_parts(text)
        if moment.tzinfo is not None:
            since = moment - _EPOCH
            timestamp_us = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
            if _FIRST_US <= timestamp_us <= _LAST_US:
                if text[-1:] == "Z" and text[19:20] == ".":
                    self._keep_second(text[:19], timestamp_us - since.microseconds)
                elif len(text) == _OFFSET_CHARS and text[19] == "." and text[29] == ":":
                    self._keep_second(text[:19] + text[26:], timestamp_us - since.microseconds)
                return timestamp_us, 0
            return _clamped(timestamp_us)
        return self.wall(
            moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second, moment.microsecond
        )

    def _iso_parts(self, text: str) -> Moment:
        """What fromisoformat refuses: slashes, leap seconds, zone names."""
        parts = _PARTS.fullmatch(text)
        if parts is None:
            return _NO_TIME
        year, month, day, h, m, s, fraction, zone = parts.groups()
        microsecond = int((fraction + "000000")[:6]) if fraction else 0
        offset = self._offset(zone) if zone else None
        return self.wall(int(year), int(month), int(day), int(h), int(m), int(s), microsecond, offset)

    @staticmethod
    def _offset(text: str) -> int | None:
        found = _OFFSET.match(text)
        if found is None:
            return 0 if text in {"Z", "UTC", "GMT"} else None
        sign, hours, minutes = found.groups()
        return (int(hours) * 60 + int(minutes or 0)) * (-1 if sign == "-" else 1)

    def wall(
        self,
        year: int | None,
        month: int,
        day: int,
        hour: int,
        minute: int,
        second: int,
        microsecond: int = 0,
        offset_minutes: int | None = None,
    ) -> Moment:
        """A time from its parts. No year: the latest one possible. No offset: the source's zone."""
        if hour > 23 or minute > 59 or second > 60 or (offset_minutes is not None and abs(offset_minutes) > 1440):
            return _NO_TIME
        inside_day_us = ((hour * 60 + minute) * 60 + second) * 1_000_000 + microsecond
        if year is None:
            year = self._year or self._latest_year(month, day)
        key = (year, month, day)
        day_us = self._days.get(key)
        if day_us is None:
            try:
                day_us = (dt.date(year, month, day).toordinal() - _EPOCH_ORDINAL) * DAY_US
            except ValueError:
                return _NO_TIME
            if len(self._days) > 1000:
                self._days.clear()
            self._days[key] = day_us
        local_us = day_us + inside_day_us
        if offset_minutes is not None:
            local_us -= offset_minutes * 60_000_000
        elif self._zone is not None:
            local_us -= self._zone_offset_us(year, month, day, hour, minute)
        else:
            local_us -= self._shift_us
        return (local_us, 0) if _FIRST_US <= local_us <= _LAST_US else _clamped(local_us)

    def _latest_year(self, month: int, day: int) -> int:
        at_s = self._window * _YEAR_WINDOW_S + 86_400 + self._shift_us // 1_000_000
        limit = dt.datetime.fromtimestamp(at_s, self._zone or dt.UTC)
        return limit.year - ((month, day) > (limit.month, limit.day))

    def _zone_offset_us(self, year: int, month: int, day: int, hour: int, minute: int) -> int:
        if self._zone is None or not 2 <= year <= 9998:
            return 0
        offset = dt.datetime(year, month, day, hour, minute, tzinfo=self._zone).utcoffset()
        return offset // _MICROSECOND if offset is not None else 0

    def any(self, text: str) -> Moment:
        """A time in any of the usual ways of writing one; TIME_ERROR for what is none."""
        moment = self.known.get(text)
        return moment if moment is not None else self._keep(text, self._any_parts(text))

    def _any_parts(self, text: str) -> Moment:
        text = text.strip("[]() \t")
        if not 4 <= len(text) <= _MAX_TIME_CHARS:
            return _NO_TIME
        if text.replace(".", "", 1).isdecimal() and "." not in text[:8] and len(text) <= 20:
            return self._digits(text)
        if (audit := _AUDIT_ID.fullmatch(text)) is not None:
            return self.epoch(float(audit[1]))
        if text[:1] == "@" and len(text) in (17, 25) and (tai := _TAI64.fullmatch(text)) is not None:
            return self.tai64(tai[1])
        for pattern, order in _LAYOUTS:
            found = pattern.fullmatch(text)
            if found is not None:
                return self._from_parts(found, order)
        return self.iso(text)

    def _digits(self, text: str) -> Moment:
        """ "20261126065107", "261126065107" or a number since the epoch."""
        if len(text) == 14 and text[:2] in ("19", "20"):
            return self.iso(f"{text[:4]}-{text[4:6]}-{text[6:8]}T{text[8:10]}:{text[10:12]}:{text[12:]}")
        return self.epoch(float(text) if "." in text else int(text))

    def _from_parts(self, found: re.Match[str], order: str) -> Moment:
        """A match of one of _LAYOUTS, whose groups are y, m, d, H, M, S, f (fraction), p (am or pm) and z (zone)."""
        groups = found.groupdict()
        day, month, year = groups.get("d"), groups.get("m"), groups.get("y")
        if order == "mdy/" and int(month or 0) > 12:  # 26/11/2026, or 26/11/23 with the year in front
            day, month, year = (month, day, year) if len(year or "") == 4 else (year, day, month)
        elif order == "dmy" and month and month.isdecimal() and int(month) > 12:  # 11-23-2026
            day, month = month, day
        number = int(month) if month and month.isdecimal() else month_number(month or "")
        if not number or not day:
            return _NO_TIME
        h, m, s = int(groups["H"]), int(groups["M"]), int(groups["S"] or 0)
        half = (groups.get("p") or "").lower()
        if half.startswith("p") and h < 12:
            h += 12
        elif half.startswith("a") and h == 12:
            h = 0
        fraction, zone = groups.get("f"), groups.get("z")
        microsecond = int((fraction + "000000")[:6]) if fraction else 0
        offset = self._offset(zone) if zone else None
        full_year = None if year is None else int(year) if len(year) == 4 else 2000 + int(year)
        return self.wall(full_year, number, int(day), h, m, s, microsecond, offset)

    @staticmethod
    def tai64(digits: str) -> Moment:
        """16 or 24 hexadecimal digits of TAI64 or TAI64N, as multilog and s6-log write them."""
        seconds = int(digits[:16], 16) - 2**62 - _TAI_AHEAD_S
        nanoseconds = int(digits[16:24] or "0", 16)
        timestamp_us = seconds * 1_000_000 + nanoseconds // 1000
        return (timestamp_us, 0) if _FIRST_US <= timestamp_us <= _LAST_US else _clamped(timestamp_us)

    @staticmethod
    def epoch(number: float) -> Moment:
        """Seconds, milliseconds, microseconds or nanoseconds since the epoch, told apart by their size."""
        size = abs(number)
        if size < 1e11:
            timestamp_us: int | None = round(number * 1_000_000)
        elif size < 1e14:
            timestamp_us = round(number * 1_000)
        elif size < 1e17:
            timestamp_us = int(number)
        elif size < 1e20:
            timestamp_us = int(number) // 1000
        else:
            timestamp_us = None
        if timestamp_us is None:
            return _NO_TIME
        return (timestamp_us, 0) if _FIRST_US <= timestamp_us <= _LAST_US else _clamped(timestamp_us)


def _inside_day_us(clock: str) -> int | None:
    """Microseconds since midnight of "06:51:07"; None for what needs a closer look."""
    if clock[2] != ":" or clock[5] != ":":
        return None
    h, m, s = int(clock[:2]), int(clock[3:5]), int(clock[6:])
    return ((h * 60 + m) * 60 + s) * 1_000_000 if h <= 23 and m <= 59 and s <= 60 else None


def _clamped(timestamp_us: int) -> Moment:
    return (_FIRST_US if timestamp_us < _FIRST_US else _LAST_US), TIME_CLAMPED
