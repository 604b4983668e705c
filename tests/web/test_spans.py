from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from threatlens.decoders.spans import pieces

LINE = "Nov 23 06:51:07 web1 sshd[4211]: Failed password for admin from 203.0.113.9 port 52144 ssh2"


def marked(raw: str, fields: dict) -> dict[str, str]:
    return {name: piece.text for piece in pieces(raw, fields) for name in piece.fields}


def test_values_are_found_where_they_stand() -> None:
    fields = {
        "host.name": "web1",
        "process.pid": 4211,
        "user.name": "admin",
        "source.ip": "203.0.113.9",
        "source.port": 52144,
    }
    found = pieces(LINE, fields)

    assert marked(LINE, fields) == {name: str(value) for name, value in fields.items()}
    assert "".join(piece.text for piece in found) == LINE


def test_a_short_value_takes_no_part_of_a_word_or_of_a_longer_value() -> None:
    assert marked("code 2201 then 22", {"process.pid": 22}) == {"process.pid": "22"}
    assert pieces("code 2201", {"process.pid": 22}) == [("code 2201", ())]
    assert marked("GET /a/b", {"url.original": "/a/b", "url.path": "/a"}) == {"url.original": "/a/b"}


def test_two_fields_with_one_value_take_two_places_or_share_one() -> None:
    assert [piece.fields for piece in pieces("22 22", {"a": 22, "b": 22}) if piece.fields] == [("a",), ("b",)]
    assert [piece.fields for piece in pieces("x 22", {"a": 22, "b": 22}) if piece.fields] == [("a", "b")]


def test_what_was_decided_and_not_read_is_not_marked() -> None:
    assert marked("x", {"event.outcome": "failure", "flag": True, "empty": ""}) == {}


@given(
    st.text(max_size=80),
    st.dictionaries(
        st.text(max_size=4), st.one_of(st.text(max_size=6), st.integers(), st.lists(st.text(max_size=3))), max_size=6
    ),
)
def test_the_pieces_are_the_line(raw: str, fields: dict) -> None:
    assert "".join(piece.text for piece in pieces(raw, fields)) == raw
