"""Message shapes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from threatlens.analyzers.patterns import TemplateTree


def test_lines_that_differ_in_numbers_share_a_shape():
    tree = TemplateTree()
    assert tree.template("job 5 done in 17 ms") == "job <*> done in <*> ms"
    assert tree.template("job 12345 done in 9 ms") == "job <*> done in <*> ms"


def test_words_that_differ_become_variable():
    tree = TemplateTree()
    first = tree.find("user alice has opened the door")
    second = tree.find("user alice has opened the window")
    assert first is second
    assert second.text == "user alice has opened the <*>"


def test_another_sentence_is_another_shape():
    tree = TemplateTree()
    assert tree.find("user alice has opened the door") is not tree.find("disk sda is full of old mails")


def test_a_shape_keeps_its_id_while_it_grows_more_general():
    tree = TemplateTree()
    first = tree.find("user alice has opened the door").id
    tree.find("user alice has opened the window")
    assert tree.find("user alice has opened the gate").id == first


def test_values_of_names_are_variable():
    assert TemplateTree().template("state=up uid=0 took 5ms") == "state=<*> uid=<*> took <*>"


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
    assert tree._shapes <= 500
    assert len(tree._leaves) <= 502


def test_a_long_line_has_a_shape():
    assert TemplateTree().template("word " * 100_000).endswith("<*>")
