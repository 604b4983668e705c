"""Message shapes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from threatlens.analyzers.patterns import TemplateTree


def test_lines_that_differ_in_numbers_share_a_shape():
    tree = TemplateTree()
    assert tree.template("job 5 done in 17 ms") == "job <*> done in <*>"
    assert tree.template("job 12345 done in 9 ms") == "job <*> done in <*>"


def test_a_place_that_has_held_several_words_holds_names():
    tree = TemplateTree()
    things = ["door", "window", "gate", "hatch", "lid"]
    shapes = [tree.find(f"alice has opened the {thing}") for thing in things]
    assert shapes[-1].text == "alice has opened the <*>"
    assert {tree.find(f"alice has opened the {thing}") for thing in things} == {shapes[-1]}


def test_two_words_in_one_place_are_two_sentences():
    tree = TemplateTree()
    assert tree.find("Starting the cleaner.") is not tree.find("Stopping the cleaner.")
    assert tree.find("the link is up") is not tree.find("the link is down")


@pytest.mark.parametrize(
    ("line", "shape"),
    [
        ("from 192.0.2.7:22 to [2001:db8::1]:80", "from <*> to [<*>]:<*>"),
        ("block blk_-4980916519894289629 of /var/lib/x", "block <*> of <*>"),
        ('open "a b c" as user alice (uid=0)', "open <*> as user <*> (uid=<*>)"),
        ("stack @0x7fed806eb5d @0x7fef9fb9b6d @0xff83e97c", "stack <*>"),
        ("at Sat Jun 18 02:08:12 2026", "at <*>"),
        ('192.0.2.1 "GET /v2/servers HTTP/1.1" status: 200', '<*> "GET <*>" status: <*>'),
        ("estimated size 384.0 B, free 5.2 KB", "estimated size <*>, free <*>"),
        ("proxy.example.org:5070 close, lifetime <1 sec", "<*> close, lifetime <*>"),
        ("Failed password for root from 192.0.2.1", "Failed password for <*> from <*>"),
        ("called by org.example.server.Main.run", "called by <*>"),
        ("enable pt......0", "enable pt......<*>"),
    ],
)
def test_what_is_data_by_its_looks_varies(line, shape):
    assert TemplateTree().template(line) == shape


@given(st.text(max_size=80))
@settings(max_examples=200, deadline=None)
def test_a_shape_has_itself_as_shape(line):
    text = TemplateTree().template(line)
    assert TemplateTree().template(TemplateTree().template(text)) == TemplateTree().template(text)


def test_another_sentence_is_another_shape():
    tree = TemplateTree()
    assert tree.find("user alice has opened the door") is not tree.find("disk sda is full of old mails")


def test_a_wider_shape_says_which_it_takes_the_place_of():
    tree = TemplateTree()
    first = tree.find("alice has opened the door").id
    for thing in ("window", "gate", "hatch"):
        wide = tree.find(f"alice has opened the {thing}")
    assert (wide.text, wide.narrower) == ("alice has opened the <*>", first)


@given(st.lists(st.text(max_size=40), max_size=30))
@settings(max_examples=100, deadline=None)
def test_the_same_lines_in_the_same_order_give_the_same_shapes(lines):
    one, other = TemplateTree(), TemplateTree()
    assert [one.template(line) for line in lines] == [other.template(line) for line in lines]


def test_memory_is_bounded_whatever_comes():
    tree = TemplateTree(max_shapes=500)
    letters = "abcdefghijklmnopqrstuvwxyz"
    for number in range(20_000):
        word = "".join(letters[number // 26**place % 26] for place in range(4))
        tree.find(f"{word} {word[::-1]} " + "x " * (number % 50))
    assert len(tree._shapes) <= 501
    assert len(tree._between) <= 100_240


def test_a_long_line_has_a_shape():
    assert TemplateTree().template("word " * 100_000).endswith("<*>")
