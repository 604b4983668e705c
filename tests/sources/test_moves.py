"""Names that a file had before it could be opened."""

from __future__ import annotations

from threatlens.sources import moves
from threatlens.sources.moves import Moves


def test_the_first_name_is_kept_through_all_renames() -> None:
    known = Moves()
    known.leaves("app.log", 1, opened=False)
    assert known.arrives("app.log.1", 1) == "app.log"
    known.leaves("app.log.1", 2, opened=False)
    assert known.arrived() == []
    assert known.arrives("app.log.2", 2) == "app.log"
    assert known.arrived() == [("app.log.2", "app.log")]
    assert known.ends("app.log.2") == "app.log"
    assert known.arrived() == []


def test_the_names_of_what_is_followed_are_of_no_matter() -> None:
    known = Moves()
    known.leaves("app.log", 1, opened=True)
    assert known.arrives("app.log.1", 1) == ""
    assert known.arrived() == []


def test_what_is_overwritten_or_left_for_elsewhere_is_forgotten(monkeypatch) -> None:
    monkeypatch.setattr(moves, "_MANY", 2)
    known = Moves()
    for cookie in range(5):
        known.leaves("app.log", cookie, opened=False)
    assert known.arrives("app.log.1", 0) == ""
    assert known.arrives("app.log.1", 4) == "app.log"
    assert known.arrives("app.log.1", 9) == ""
    assert known.arrived() == []
