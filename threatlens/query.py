"""The query language: words, "quoted phrases" and fields that must hold (OR: one of several), read into an EventFilter.

The grammar accepts the usual mistakes as tokens of their own, so that each is answered in words that name what is wrong
and in which column, instead of with a parser's list of expected terminals.
"""

from __future__ import annotations

import datetime as dt
import difflib
import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import NoReturn

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from threatlens.errors import QueryError
from threatlens.event import EventFilter, rfc3339
from threatlens.event_match import ALIASES, NUMBER, FieldTest, network

MAX_LENGTH = 2_000  # characters
MAX_TERMS = 50
LAST_US = 253_402_300_799_999_999  # the last microsecond of the year 9999
TIMES = ("after", "before")
#: What an event is asked for by name, beside the times and `has`; other fields are called as ECS calls them.
FIELDS = (*ALIASES, "has", *TIMES)
#: How the names of our decoders' fields begin: the field sets of ECS, and what stands beside them.
FIELD_SETS = frozenset(
    [
        "agent",
        "audit",
        "auditd",
        "client",
        "cloud",
        "container",
        "database",
        "destination",
        "dns",
        "email",
        "error",
        "event",
        "file",
        "group",
        "host",
        "http",
        "id",
        "json",
        "kubernetes",
        "log",
        "logfmt",
        "network",
        "observer",
        "orchestrator",
        "organization",
        "process",
        "registry",
        "related",
        "rule",
        "server",
        "service",
        "session",
        "source",
        "ssh",
        "threat",
        "threatlens",
        "tls",
        "trace",
        "url",
        "user",
        "user_agent",
        "vulnerability",
        "winlog",
    ]
)

GRAMMAR = r"""
start: _WS? (_term ((_WS | AND) _term)* _WS?)?
_term: _one | either
_one: word | field | mistake | excluded
either: _one (_OR _one)+
excluded: (NEGATION | NOT _WS) (word | field)
word: WORD | PHRASE
field: FIELD (_value ("," _value)* | "(" _WS? _value (_WS? "," _WS? _value)* _WS? ")")
_value: VALUE | PHRASE
mistake: UNTERMINATED | GROUP | OPERATOR

FIELD.4: /[A-Za-z_]+(\.[A-Za-z0-9_-]+)*(:(?!\/\/)|\s*(>=|<=|==|!=|[=<>]))\s*/
_OR.6: /\s+(OR|\|\|)\s+(?=\S)/
AND.6: /\s+(AND|&&)\s+(?=\S)/
NOT.5: /NOT(?=\s+\S)/
OPERATOR.3: /(AND|OR|NOT)(?=\s|$)/
PHRASE.3: /"([^"\\]|\\.)*"/s
UNTERMINATED.2: /"([^"\\]|\\.)*\\?/s
NEGATION.2: /[-!](?=[^\s()])/
GROUP.2: /[()]\S*/
VALUE.1: /[^\s,()"]+/
WORD.0: /[^\s"()]\S*/
_WS: /\s+/
"""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_RELATIVE = re.compile(r"-?([0-9]{1,9})([smhdw])")
_PLAIN = re.compile(r'[^\s,()"\\<>][^\s,()"\\]*')
_COMPARING = re.compile(r"(>=|<=|>|<)(.+)")
_NETWORK = re.compile(r"[0-9a-fA-F:.]+/[0-9]{1,3}|[0-9]{1,3}(\.[0-9]{1,3}){0,2}\.\*", re.ASCII)
#: What people call severities -> the numbers that are meant.
LEVELS = {"info": (1, 2), "informational": (1, 2), "low": (3, 4), "medium": (5, 6), "high": (7, 8), "critical": (9, 10)}
#: What fields are called elsewhere -> what they are called here.
MEANT = {
    "user": ("account", "login", "username"),
    "src": ("client", "clientip", "remote_addr", "src_ip", "srcip", "source_ip"),
    "dst": ("dest", "dest_ip", "dst_ip", "dstip", "target"),
    "host": ("computer", "hostname", "machine"),
    "program": ("app", "prog"),
    "after": ("from", "since", "start", "time", "date", "earliest"),
    "before": ("until", "to", "end", "latest"),
    "severity": ("prio", "priority"),
    "url": ("uri", "request"),
    "agent": ("ua", "useragent"),
    "has": ("_exists_", "exists"),
    "source": ("log", "index"),
}
_MEANT = {other: name for name, others in MEANT.items() for other in others}
_TEXT = ("line", "message", "msg", "raw", "text")
#: What is looked for as words and was maybe meant otherwise -> how that is written.
_HINTS = (
    (
        r"\b(last|past)\s+[0-9]*\s*([smhdw]|min|(second|minute|hour|day|week|month)s?)\b|^\s*(today|yesterday|now)\s*$",
        "These words are looked for in the lines. A time is written after:-1h (s m h d w), or chosen below.",
    ),
    (r"\S\s+or\s+\S", "“or” is looked for as a word; OR in capitals means either of the two."),
    (
        r"^\s*not\s+\S|\sand\s+not\s",
        "“not” is looked for as a word; NOT in capitals, or a minus before it, leaves out.",
    ),
    (r"^\s*'[^']+'\s*$", 'A phrase stands in double quotes, as in "failed password".'),
    (r"^\s*/.+/\s*$", "Regular expressions are not known; * stands for anything in a field, as in url:*login*."),
    (r"(^|\s)\*\w", "A word is found from its beginning on, not within another one; * stands for anything in a field."),
    (r"\s\|\s*[a-z]+", "Nothing is piped here: sorting, columns and counts are beside the list."),
)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def parse_query(text: str, *, now_us: int) -> EventFilter:
    """The filter that this query asks for; raises QueryError naming what is wrong and in which column.

    now_us (microseconds since the epoch) is what relative times count from.
    """
    if len(text) > MAX_LENGTH:
        msg = f"The query has {len(text)} characters; at most {MAX_LENGTH} are allowed."
        raise QueryError(msg, field="q")
    for column, character in enumerate(text, 1):
        if (ord(character) < 32 and not character.isspace()) or 0xD800 <= ord(character) < 0xE000:
            _fail("a character that is not text", column)
    try:
        tree = _parser().parse(text)
    except UnexpectedInput as error:
        _explain(text, error)
    terms = [term for term in tree.children if isinstance(term, Tree)]
    ands = [token for token in tree.children if isinstance(token, Token)]
    n_terms = sum(len(term.children) if term.data == "either" else 1 for term in terms)
    if n_terms > MAX_TERMS:
        msg = f"The query has {n_terms} terms; at most {MAX_TERMS} are allowed."
        raise QueryError(msg, field="q")
    where = EventFilter()
    words: list[str] = []
    if ands and any(term.data == "either" for term in terms):
        column = (ands[0].start_pos or 0) + len(ands[0]) - len(ands[0].lstrip()) + 1
        _fail("AND and OR beside each other can be read in two ways; leave AND out, or write a list: user:(root,admin)",
              column, len(ands[0].strip()))  # fmt: skip
    for term in terms:
        if term.data == "either":
            where = _either(where, term, words, now_us)
            continue
        negated = term.data == "excluded"
        kind = term.children[-1] if negated else term
        assert isinstance(kind, Tree)  # noqa: S101
        first, *values = [token for token in kind.children if isinstance(token, Token)]
        if kind.data == "mistake":
            _explain_mistake(first)
        elif kind.data == "field":
            where = both(where, _field(first, values, now_us, negated=negated))
        else:
            word = _word(first)
            if first.type == "WORD" and _is_network(word):
                where = both(where, EventFilter(tests=(FieldTest("ip", ":", (word,), negated),)))
            elif word.strip() and negated:
                where = both(where, EventFilter(tests=(FieldTest("", ":", (word,), negated=True),)))
            elif word.strip():
                words.append(word)
    return replace(where, words=tuple(words))


def _either(where: EventFilter, term: Tree[Token], words: list[str], now_us: int) -> EventFilter:
    """The filter with one condition more: one of several words, or of several values of one field."""
    parts = [part for part in term.children if isinstance(part, Tree)]
    for part in parts:
        if part.data == "mistake":
            _explain_mistake(next(part.scan_values(lambda token: isinstance(token, Token))))
    tokens = [[token for token in part.children if isinstance(token, Token)] for part in parts]
    if all(part.data == "word" for part in parts):
        found = tuple(dict.fromkeys(word for token, *_ in tokens if (word := _word(token)).strip()))
        if len(found) == 1:
            words.append(found[0])
        return both(where, EventFilter(tests=(FieldTest("", ":", found),))) if len(found) > 1 else where
    first, place = tokens[0][0], tokens[0][0].start_pos or 0
    names = {token.rstrip(":= \t\r\n").lower() for token, *_ in tokens}
    if len(names) > 1 or any(part.data != "field" for part in parts):
        length = (tokens[-1][-1].end_pos or place + 1) - place
        _fail("OR stands between words, or between values of one field, as user:(root,admin); search for different"
              " fields one after the other", place + 1, length)  # fmt: skip
    return both(where, _field(first, [value for _, *values in tokens for value in values], now_us, negated=False))


def hint(text: str) -> str:
    """How what is looked for as words is written if something else was meant; "" where nothing suggests that."""
    return next((words for pattern, words in _HINTS if re.search(pattern, text)), "")


def both(left: EventFilter, right: EventFilter) -> EventFilter:
    """The filter for events that both filters want; raises QueryError where no event can be both."""
    starts = [us for us in (left.start_us, right.start_us) if us is not None]
    ends = [us for us in (left.end_us, right.end_us) if us is not None]
    return EventFilter(
        min_severity=max(left.min_severity, right.min_severity),
        max_severity=min(left.max_severity, right.max_severity),
        categories=_common("category", left.categories, right.categories),
        sources=_common("source", left.sources, right.sources),
        start_us=max(starts, default=None),
        end_us=min(ends, default=None),
        words=left.words + right.words,
        tests=tuple(dict.fromkeys(left.tests + right.tests)),
    )


def parse_time(text: str, *, now_us: int) -> int:
    """Microseconds since the epoch of a relative time (-2h: s, m, h, d, w) or an ISO 8601 date or date with time.

    Without an offset a time is UTC; one before 1970 counts as 1970. Raises QueryError.
    """
    relative = _RELATIVE.fullmatch(text)
    if relative:
        return max(0, now_us - int(relative[1]) * _UNITS[relative[2]] * 1_000_000)
    try:
        moment = dt.datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=dt.UTC)
        since = moment - _EPOCH
    except (ValueError, OverflowError) as error:
        msg = f"{_shown(text)} is not a time; write -2h, 2026-11-23 or 2026-11-23T06:51:07Z"
        raise QueryError(msg) from error
    return min(max(0, since // dt.timedelta(microseconds=1)), LAST_US)


def to_query(where: EventFilter) -> str:
    """The query that means this filter, with absolute times."""
    terms = []
    if where.min_severity > 1:
        terms.append(f"severity>={where.min_severity}")
    if where.max_severity < 10:
        terms.append(f"severity<={where.max_severity}")
    for name, values in (("category", where.categories), ("source", where.sources)):
        if values:
            terms.append(f"{name}:({','.join(_quoted(value) for value in values)})")
    for name, time_us in (("after", where.start_us), ("before", where.end_us)):
        if time_us is not None:
            terms.append(f"{name}:{rfc3339(time_us)}")
    return " ".join([*terms, *(_quoted(word) for word in where.words), *map(_test_as_text, where.tests)])


def _test_as_text(test: FieldTest) -> str:
    sign = "-" if test.negated else ""
    if not test.name:
        return sign + " OR ".join(map(_quoted, test.values))
    if test.operator == "has":
        return f"{sign}has:{_listed(test.values)}"
    if test.operator != ":":
        return f"{sign}{test.name}{test.operator}{test.values[0]}"
    return f"{sign}{test.name}:{_listed(value if _PLAIN.fullmatch(value) else _quoted(value) for value in test.values)}"


def _listed(values: Iterable[str]) -> str:
    texts = list(values)
    return texts[0] if len(texts) == 1 else f"({','.join(texts)})"


@cache
def _parser() -> Lark:
    return Lark(GRAMMAR, parser="lalr", lexer="contextual")


def _field(token: Token, values: list[Token], now_us: int, *, negated: bool) -> EventFilter:
    match = re.fullmatch(r"([\w.-]+?)\s*(>=|<=|==|!=|[:=<>])\s*", token)
    assert match is not None  # noqa: S101 - the terminal says so
    written, operator = match[1], match[2]
    name = _known(written, token)
    if operator == "!=" and name not in (*TIMES, "has"):
        operator, negated = ":", not negated
    texts = tuple(dict.fromkeys(_unquoted(value) for value in values))
    comparing = _COMPARING.fullmatch(values[0]) if operator == ":" and values[0].type == "VALUE" else None
    if comparing and len(values) == 1 and (name == "severity" or NUMBER.fullmatch(comparing[2])):
        operator, values = comparing[1], [values[0].update(value=comparing[2])]
        texts = (comparing[2],)
    if name in (*TIMES, "has", "category", "source") and operator not in (":", "=", "=="):
        _fail(f'"{operator}" does not go with {written}; write {written}:', token)
    if name in TIMES or (name == "severity" and not negated):
        if len(values) > 1:
            one = "one number or a range such as 5..7" if name == "severity" else "one time"
            _fail(f"{written} takes {one}", values[1])
        return (
            _severity(operator, texts[0], values[0]) if name == "severity" else _time(name, values[0], now_us, negated)
        )
    if name == "has":
        return EventFilter(tests=(FieldTest(name, "has", tuple(_there(value) for value in values), negated),))
    if name == "severity":
        for value in values:
            _severity(operator, _unquoted(value), value)
        texts = tuple(_as_numbers(operator, text) for text in texts)
    elif operator not in (":", "=", "=="):
        for value in values:
            if len(values) > 1 or not NUMBER.fullmatch(_unquoted(value)):
                _fail(f'"{operator}" compares with one number, as in {written}{operator}400', value)
    elif not negated and not any(value.type == "VALUE" and "*" in value for value in values):
        if name == "category":
            return EventFilter(categories=tuple(dict.fromkeys(text.lower() for text in texts)))
        if name == "source":
            return EventFilter(sources=texts)
    return EventFilter(tests=(FieldTest(name, ":" if operator in ("=", "==") else operator, texts, negated),))


def _known(written: str, token: Token) -> str:
    """The name as tests have it."""
    name = written.lower()
    if name in _TEXT:
        _fail(f'"{written}" is no field: words of the line are written as they are, without one', token, len(written))
    if name not in FIELDS and not ("." in name and name.partition(".")[0] in FIELD_SETS):
        near = [_MEANT[name]] if name in _MEANT else difflib.get_close_matches(name, FIELDS, 1)
        known = ", ".join(sorted(set(FIELDS) - {"sev"}))
        others = f"known are {known} and the names of ECS such as http.request.method."
        meant = f'did you mean "{near[0]}"?' if near else others
        _fail(
            f'unknown field "{written}"; {meant} To find it as text, put it in quotes',
            token,
            len(written),
        )
    return "severity" if name == "sev" else name


def _there(token: Token) -> str:
    text = _unquoted(token).lower()
    if text not in ALIASES and text.partition(".")[0] not in FIELD_SETS:
        _fail(f'"has" takes the name of a field, such as user or source.geo, not {_shown(text)}', token)
    return text


def _time(name: str, token: Token, now_us: int, negated: bool) -> EventFilter:
    try:
        time_us = parse_time(_unquoted(token), now_us=now_us)
    except QueryError as error:
        _fail(str(error), token)
    return EventFilter(start_us=time_us) if (name == "after") is not negated else EventFilter(end_us=time_us)


def _severity(operator: str, text: str, token: Token) -> EventFilter:
    low_text, dots, high_text = text.partition("..")
    if dots and operator not in (":", "=", "=="):
        _fail(f'a range goes with ":" only, not with "{operator}"', token)
    low, high = _level(low_text, token)
    if dots:
        high = _level(high_text, token)[1]
    if (operator == ">" and high == 10) or (operator == "<" and low == 1) or low > high:
        _fail(f"no event has severity {operator}{text}", token)
    if operator == ">":
        return EventFilter(min_severity=high + 1)
    if operator == "<":
        return EventFilter(max_severity=low - 1)
    if operator == ">=":
        return EventFilter(min_severity=low)
    if operator == "<=":
        return EventFilter(max_severity=high)
    return EventFilter(min_severity=low, max_severity=high)


def _level(text: str, token: Token) -> tuple[int, int]:
    """The lowest and the highest severity that a number or a word means."""
    if text.lower() in LEVELS:
        return LEVELS[text.lower()]
    if not re.fullmatch(r"[1-9]|10", text):
        _fail(f"severity is a whole number from 1 to 10, or low, medium, high or critical, not {_shown(text)}", token)
    return int(text), int(text)


def _as_numbers(operator: str, text: str) -> str:
    """The same severity without words, as events have it."""
    low, dots, high = text.lower().partition("..")
    ends = [LEVELS.get(low, (low, low)), LEVELS.get(high, (high, high)) if dots else LEVELS.get(low, (low, low))]
    if operator in (">", "<="):
        return str(ends[1][1])
    return str(ends[0][0]) if operator in (">=", "<") or ends[0][0] == ends[1][1] else f"{ends[0][0]}..{ends[1][1]}"


def _common(name: str, left: tuple[str, ...], right: tuple[str, ...]) -> tuple[str, ...]:
    if not left or not right:
        return left or right
    found = tuple(value for value in left if value in right)
    if not found:
        msg = f"No event has two values of {name}; for any of several write {name}:({','.join([*left, *right][:3])})."
        raise QueryError(msg, field=name)
    return found


def _is_network(text: str) -> bool:
    """Whether a word is a network, which no line holds as it is written: 10.0.0.0/8, 10.0.0.*."""
    return bool(_NETWORK.fullmatch(text)) and ("*" in text or network(text) is not None)


def _word(token: Token) -> str:
    """The text that is looked for: words are found within words, so that a * at an end says nothing."""
    text = _unquoted(token)
    bare = text.strip("*") if token.type == "WORD" and not _NETWORK.fullmatch(text) else text
    return bare if re.search(r"\w", bare) else text


def _unquoted(token: Token) -> str:
    if token.type != "PHRASE":
        return str(token)
    return re.sub(r"\\(.)", r"\1", token[1:-1], flags=re.DOTALL)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _explain_mistake(token: Token) -> NoReturn:
    text = {
        "UNTERMINATED": "the quotation mark is never closed",
        "GROUP": f'"{token[0]}" can only hold a list, as in source:(auth,nginx); to find it as text, use quotes',
        "OPERATOR": f'"{token}" has no meaning here, it stands between two terms; to find the word itself, put it in'
        " quotes",
    }
    _fail(text[token.type], token)


def _explain(text: str, error: UnexpectedInput) -> NoReturn:
    """What the grammar itself cannot take: a field without its value, a list that is not one."""
    if isinstance(error, UnexpectedToken) and error.token.type == "$END":
        _fail("a value is missing at the end, or a list is not closed", len(text) + 1)
    if isinstance(error, (UnexpectedToken, UnexpectedCharacters)):
        position = error.pos_in_stream or 0
        if text[position:].lstrip().startswith('"') and text[:position].rstrip()[-1:] in ":=<>(,":
            _fail("the quotation mark is never closed", position + 1, len(text) - position)
        expected = "a value or a list" if text[:position].rstrip()[-1:] in ":=<>(," else "a space"
        _fail(f"{_shown(text[position : position + 20])} cannot stand here; {expected} was expected", position + 1)
    raise error


def _shown(text: str) -> str:
    return '"' + (text if len(text) <= 40 else text[:40] + "…") + '"'


def _fail(what: str, at: Token | int, length: int = 0) -> NoReturn:
    """Raises QueryError; the column is counted from 1 over the whole text, lark's own begin again on every line."""
    column = at if isinstance(at, int) else (at.start_pos or 0) + 1
    length = length or (1 if isinstance(at, int) else len(at))
    raise QueryError(f"Column {column}: {what}.", field="q", column=column, length=length)
