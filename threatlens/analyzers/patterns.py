"""Message shapes: which lines are the same sentence with other names and numbers in it.

A tree of our own after the idea of Drain: lines are grouped by their number of words, then by their first words, then
by how many words agree; words that disagree become "<*>". In front stands a cache by the line with its digits folded,
as most lines differ in digits only. Memory is bounded: a full tree gathers what is new under catch-all shapes.
"""

from __future__ import annotations

import hashlib
import re

WILD = "<*>"
_DIGITS = str.maketrans("123456789", "000000000")
_SIMILAR = 0.5  # share of words that must agree
_DEPTH = 2  # first words that select a branch
_MAX_WORDS = 120  # words looked at; the rest of a longer line is one "<*>"
_MAX_CHARS = 4_000
_MAX_BRANCHES = 200  # per node; further first words share one branch
_MAX_SHAPES_PER_LEAF = 100
_MAX_CACHED = 50_000
_MAX_CACHED_CHARS = 500  # longer lines are not worth remembering
_VARIABLE = re.compile(r"[0-9]")
_EDGES = "\"'`()[]{}<>,;:=."


class Shape:
    """One message shape. Its text becomes more general as lines arrive; its id is that of its first text."""

    __slots__ = ("count", "id", "words")

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.count = 0
        self.id = hashlib.blake2b(" ".join(words).encode("utf-8", "replace"), digest_size=6).hexdigest()

    @property
    def text(self) -> str:
        """The words, "<*>" where they vary."""
        return " ".join(self.words)


class TemplateTree:
    """Finds the shape of messages, learning as it goes. The same messages in the same order give the same shapes."""

    def __init__(self, *, max_shapes: int = 20_000) -> None:
        self._leaves: dict[tuple[str, ...], list[Shape]] = {}
        self._branches: dict[tuple[int, int], set[str]] = {}
        self._cache: dict[str, Shape] = {}
        self._max_shapes = max_shapes
        self._shapes = 0

    def template(self, message: str) -> str:
        """The message's shape as text."""
        return self.find(message).text

    def find(self, message: str) -> Shape:
        """The message's shape."""
        folded = message[:_MAX_CHARS].translate(_DIGITS)
        shape = self._cache.get(folded)
        if shape is None:
            shape = self._place(_words(folded))
            if len(folded) <= _MAX_CACHED_CHARS:
                if len(self._cache) >= _MAX_CACHED:
                    self._cache.clear()
                self._cache[folded] = shape
        shape.count += 1
        return shape

    def _place(self, words: list[str]) -> Shape:
        leaf = self._leaf(words)
        best, agreeing = None, -1.0
        for shape in leaf:
            share = _agreement(shape.words, words)
            if share > agreeing:
                best, agreeing = shape, share
        full = self._shapes >= self._max_shapes or len(leaf) >= _MAX_SHAPES_PER_LEAF
        if best is not None and (agreeing >= _SIMILAR or full):
            if agreeing < 1.0:
                best.words = [known if known == word else WILD for known, word in zip(best.words, words, strict=True)]
            return best
        if full:
            words = [WILD] * min(len(words), 1)
            return self._catch_all(words)
        self._shapes += 1
        leaf.append(Shape(words))
        return leaf[-1]

    def _catch_all(self, words: list[str]) -> Shape:
        leaf = self._leaves.setdefault(("",), [])
        if not leaf:
            leaf.append(Shape(words))
        return leaf[0]

    def _leaf(self, words: list[str]) -> list[Shape]:
        path = [str(len(words))]
        for level, word in enumerate(words[:_DEPTH]):
            known = self._branches.setdefault((len(words), level), set())
            if word != WILD and word not in known:
                if len(known) < _MAX_BRANCHES and len(self._leaves) < self._max_shapes:
                    known.add(word)
                else:
                    word = WILD  # noqa: PLW2901
            path.append(word)
        key = tuple(path)
        leaf = self._leaves.get(key)
        if leaf is None:
            if len(self._leaves) >= self._max_shapes:
                return []
            leaf = self._leaves[key] = []
        return leaf


def _words(folded: str) -> list[str]:
    """The words of a line whose digits are folded; a word with a digit, or the value in name=value, is variable."""
    words = []
    for word in folded.split(None, _MAX_WORDS):
        name, sign, value = word.partition("=")
        if sign and value and name and _VARIABLE.search(name) is None:
            words.append(f"{name}={WILD}")
        elif _VARIABLE.search(word) is not None:
            bare = word.strip(_EDGES)
            words.append(word.replace(bare, WILD, 1) if bare else WILD)
        else:
            words.append(word)
    if len(words) > _MAX_WORDS:
        words[_MAX_WORDS:] = [WILD]
    return words or [""]


def _agreement(known: list[str], words: list[str]) -> float:
    """The share of words that are the same; a place that varies already agrees by half."""
    same = sum(1.0 if a == b else 0.5 if a == WILD else 0.0 for a, b in zip(known, words, strict=True))
    return same / len(words)
