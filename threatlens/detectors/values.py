"""Texts with wildcards as the cheapest test that says the same."""

from __future__ import annotations

from threatlens.detectors.rule import Tree


def text_test(name: str | None, cased: bool, pieces: list[str | int]) -> Tree:
    """The cheapest test that says the same as texts and wildcards (0 "*", 1 "?") in a row."""
    merged: list[str | int] = []
    for piece in pieces:
        if isinstance(piece, str) and merged and isinstance(merged[-1], str):
            merged[-1] += piece
        elif not (piece == 0 and merged and merged[-1] == 0 and isinstance(merged[-1], int)):
            merged.append(piece)
    texts = [piece for piece in merged if isinstance(piece, str)]
    shape = ["t" if isinstance(piece, str) else piece for piece in merged]
    if name is None:  # a keyword stands anywhere in a value
        while shape and shape[0] == 0:
            del shape[0], merged[0]
        while shape and shape[-1] == 0:
            del shape[-1], merged[-1]
        return ["in", None, cased, texts] if shape == ["t"] else ["glob", None, cased, [merged]]
    if not merged:
        return ["eq", name, cased, [""]]
    if shape == ["t"]:
        return ["eq", name, cased, texts]
    if shape == [0]:
        return ["any", name, cased, []]
    if shape == ["t", 0]:
        return ["pre", name, cased, texts]
    if shape == [0, "t"]:
        return ["suf", name, cased, texts]
    if shape == [0, "t", 0]:
        return ["in", name, cased, texts]
    return ["glob", name, cased, [merged]]
