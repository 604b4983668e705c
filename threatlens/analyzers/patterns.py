"""Message shapes: which lines are the same sentence with other names and numbers in it.

A line is cut into words and the signs between them. What is data by its looks (numbers, addresses, paths, what stands
in quotes) becomes "<*>" at once; other words are the sentence, until one place between the same neighbours has held
several: then it holds names. So "Starting A." and "Stopping B." stay two shapes, and a thousand user names make one.
In front stands a cache by the line with its digits folded, as most lines differ in digits only. Memory is bounded: a
crowded tree brings together what is alike, and a full one gathers what is new under a catch-all shape.
"""

from __future__ import annotations

import hashlib
import re

WILD = "<*>"
_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_NAMES = 4  # different words between the same neighbours that make their place one of names
_CROWDED = 40  # shapes with the same first word and length; beyond, similar ones are one
_SIMILAR = 0.6  # share of words that must agree then
_MAX_TOKENS = 240  # words and signs looked at; the rest of a longer line is one "<*>"
_MAX_BETWEEN = 100_000
_MAX_CHARS = 4_000
_MAX_CACHED = 50_000
_MAX_CACHED_BYTES = 500  # longer lines are not worth remembering
_METHODS = r"(?:GET|POST|PUT|DELETE|HEAD|OPTIONS|PATCH|CONNECT) "
_TOKEN = re.compile(
    rf"<\*>|\"(?!{_METHODS})[^\"\n]{{0,400}}\"|(?<![\w'])'[^'\n]{{0,400}}'(?!\w)"
    r"|(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{1,4}(?:\.[0-9.]{1,15})?(?![\w:])"  # IPv6, MAC, clock
    r"|[A-Za-z][\w-]*(?:\.[\w-]+)+:0{1,5}(?![\w.])"  # host:port, file:line
    r"|<?0+(?:\.0+)? (?:B|[KMGT]i?B|ms|sec)\b"  # a size or a duration
    r"|\w+://[^\s\"'<>]+|[A-Za-z]:\\[^\s\"'<>|,;]*|(?:[\w/\\@%+*#$~!&-]|\.(?!\.))+|\s+|\.{2,}|[^\w\s]"
)
_DIGIT = re.compile(r"[0-9]")
_HEX = re.compile(r"[0-9a-fA-F]{8,}")
_END = re.compile(r"([.!*-]+)$")
_DATES = frozenset(
    ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep",
     "Oct", "Nov", "Dec", "UTC", "GMT")
)  # fmt: skip
_DOTTED = re.compile(r"[A-Za-z_][\w-]*(?:\.[\w$/-]+){2,}\.?|[\w.-]+/\.?[\w.$]+")
_NAMED_BEHIND = frozenset(("user", "User"))  # what follows is a name
_JOINTS = frozenset((" ", ":", ",", "-", "|", ", ", ": "))


class Shape:
    """One message shape; its id is that of its text."""

    __slots__ = ("count", "id", "narrower", "tokens")

    def __init__(self, tokens: tuple[str, ...]) -> None:
        self.tokens = tokens
        self.count = 0
        self.narrower = ""  # the id of a shape whose lines have this one from now on
        self.id = hashlib.blake2b(self.text.encode("utf-8", "replace"), digest_size=6).hexdigest()

    @property
    def text(self) -> str:
        """The line with "<*>" where it varies."""
        return "".join(self.tokens)


class TemplateTree:
    """Finds the shape of messages, learning as it goes. The same messages in the same order give the same shapes."""

    def __init__(self, *, max_shapes: int = 20_000) -> None:
        self._max_shapes = max_shapes
        self._cache: dict[bytes, Shape] = {}
        self._shapes: dict[tuple[str, ...], Shape] = {}
        #: Hash of a shape with one word left out -> the words that stood there.
        self._between: dict[int, tuple[str, ...]] = {}
        #: Length and first word -> shapes with places for names, which are to be compared place by place.
        self._general: dict[tuple[int, str], list[Shape]] = {}
        self._crowd: dict[tuple[int, str], list[Shape]] = {}

    def template(self, message: str) -> str:
        """The message's shape as text."""
        return self.find(message).text

    def find(self, message: str) -> Shape:
        """The message's shape."""
        # Bytes are translated ten times as fast as text.
        folded = message[:_MAX_CHARS].encode("utf-8", "surrogatepass").translate(_DIGITS)
        shape = self._cache.get(folded)
        if shape is None:
            shape = self._place(tokens_of(folded.decode("utf-8", "surrogatepass")))
            if len(folded) <= _MAX_CACHED_BYTES:
                if len(self._cache) >= _MAX_CACHED:
                    self._cache.clear()
                self._cache[folded] = shape
        shape.count += 1
        return shape

    def recall(self, text: str) -> Shape:
        """Know a shape by its text again, as found in an earlier life."""
        tokens = tokens_of(text)
        return self._shapes.get(tokens) or self._generalise(tokens)

    def _place(self, tokens: tuple[str, ...]) -> Shape:
        shape = self._shapes.get(tokens) or self._matching(tokens)
        if shape is not None:
            return shape
        leaf = len(tokens), tokens[0]
        crowd = self._crowd.setdefault(leaf, [])
        if len(crowd) >= _CROWDED and (alike := _most_alike(crowd, tokens)) is not None:
            wider = tuple(a if a == b else WILD for a, b in zip(alike.tokens, tokens, strict=True))
            return self._shapes.get(wider) or self._generalise(wider)
        if len(self._shapes) >= self._max_shapes:
            return self._shapes.get((WILD,)) or self._add((WILD,))
        merged = self._with_names(tokens)
        if merged is not None:
            return self._generalise(merged)
        return self._add(tokens)

    def _add(self, tokens: tuple[str, ...]) -> Shape:
        shape = self._shapes[tokens] = Shape(tokens)
        self._crowd.setdefault((len(tokens), tokens[0]), []).append(shape)
        return shape

    def _with_names(self, tokens: tuple[str, ...]) -> tuple[str, ...] | None:
        """The tokens with a place for names, if by this line one of their places turns out to hold names."""
        found = None
        if len(self._between) > _MAX_BETWEEN:
            self._between.clear()
        for place, part in enumerate(tokens):
            if place and part[0].isalpha():
                around = (*tokens[:place], WILD, *tokens[place + 1 :])
                key = hash(around)
                words = self._between.get(key, ())
                if len(words) < _NAMES and part not in words:
                    words = self._between[key] = (*words, part)
                if len(words) >= _NAMES and found is None:
                    found = around
        return found

    def _generalise(self, tokens: tuple[str, ...]) -> Shape:
        """Make this shape, and take the place of the narrower ones."""
        shape = self._shapes.get(tokens)
        if shape is None:
            wider = self._with_names(tokens)
            if wider is not None and wider.count(WILD) < len(tokens) // 2 + 1:
                return self._generalise(wider)
            shape = self._add(tokens)
        narrower = [other for other in self._crowd[len(tokens), tokens[0]] if _covers(tokens, other.tokens)]
        for other in narrower:
            if other is not shape:
                shape.narrower = shape.narrower or other.id
                del self._shapes[other.tokens]
                self._crowd[len(other.tokens), other.tokens[0]].remove(other)
        general = self._general.setdefault((len(tokens), tokens[0]), [])
        general[:] = [other for other in general if not _covers(tokens, other.tokens)] + [shape]
        self._cache.clear()
        return shape

    def _matching(self, tokens: tuple[str, ...]) -> Shape | None:
        return next(
            (shape for shape in self._general.get((len(tokens), tokens[0]), ()) if _covers(shape.tokens, tokens)), None
        )


def tokens_of(folded: str) -> tuple[str, ...]:
    """The words and signs of a line whose digits are folded, with "<*>" for what is data."""
    tokens: list[str] = []
    for part in _TOKEN.findall(folded)[: _MAX_TOKENS + 1]:
        if len(tokens) >= _MAX_TOKENS:
            tokens.append(WILD)
            break
        if part.isspace():
            tokens.append(" ")
        elif part == ")" and tokens[-2:] == [" ", "("]:
            tokens += (WILD, ")")
        elif _is_data(part) or (tokens and _is_data_here(part, tokens)):
            end = _END.search(part)
            tokens.append(WILD)
            if end is not None and end.start():
                tokens.append(end[1])
            _join(tokens)
        else:
            tokens.append(part)
            if part == "from" and tokens[-5:-3] == ["for", " "] and tokens[-2] == " ":
                tokens[-3] = WILD  # "for alice from 192.0.2.7"
    while tokens and tokens[-1] == " ":
        tokens.pop()
    return tuple(tokens) or ("",)


def _is_data(part: str) -> bool:
    first = part[0]
    if len(part) == 1:
        return first.isdigit()
    return (
        part == WILD
        or part.strip("*") == ""
        or first in "\"'/\\"
        or "\\" in part
        or "://" in part
        or _DIGIT.search(part) is not None
        or _HEX.fullmatch(part) is not None
    )


def _is_data_here(part: str, before: list[str]) -> bool:
    """Whether the part is data behind what stands before it."""
    if part in _DATES:
        return before[-1] == " "
    if "." in part[1:-1]:
        return before[-1] == "=" or _DOTTED.fullmatch(part) is not None
    return before[-1] == " " and len(before) > 1 and before[-2] in _NAMED_BEHIND


def _join(tokens: list[str]) -> None:
    """One "<*>" for data behind data: lists and runs differ in their length."""
    if tokens[-1] != WILD:
        return
    if len(tokens) >= 3 and tokens[-3] == WILD and tokens[-2] in _JOINTS:
        del tokens[-2:]
    elif len(tokens) >= 4 and tokens[-4] == WILD and tokens[-3] + tokens[-2] in _JOINTS:
        del tokens[-3:]


def _covers(general: tuple[str, ...], tokens: tuple[str, ...]) -> bool:
    return len(general) == len(tokens) and all(a in (b, WILD) for a, b in zip(general, tokens, strict=True))


def _most_alike(shapes: list[Shape], tokens: tuple[str, ...]) -> Shape | None:
    """The shape that agrees in most words, if those are enough."""
    best, most = None, _SIMILAR
    words = sum(part[0].isalpha() for part in tokens)
    for shape in shapes:
        same = sum(a == b and a[0].isalpha() for a, b in zip(shape.tokens, tokens, strict=True))
        if same >= most * words:
            best, most = shape, same / words
            if not words:
                break
    return best
