"""Decoders that people have made are loaded while the engine runs, and one that is wrong harms nobody."""

from __future__ import annotations

import os

import pytest

from threatlens.errors import DecoderError
from threatlens.own_decoders import OwnDecoders, known_format

GATE = "name: shop.gate\npattern: gate (?P<user>[a-z]+) refused\ncategory: authentication\n"


@pytest.fixture
def own(tmp_path):
    now = iter(range(1000))
    return OwnDecoders(str(tmp_path / "decoders"), clock=lambda: float(next(now)))


def test_what_is_saved_reads_at_once_and_reads_stored_lines_again(own):
    before = own.registry()
    own.save(GATE)
    assert own.registry() is not before
    assert own.registry() is own.registry()
    assert own.rereader()("gate alice refused", "shop.gate").fields["user.name"] == "alice"


def test_a_file_that_is_put_there_is_loaded_and_one_that_is_wrong_is_told(own, tmp_path):
    own.save(GATE)
    (tmp_path / "decoders" / "bad.yml").write_text("name: (")
    (tmp_path / "decoders" / "second.yml").write_text("name: second\npattern: b")
    assert {made.name for made in own.all()} == {"shop.gate", "second"}
    assert list(own.problems) == ["bad.yml"]


def test_a_removed_decoder_is_forgotten(own):
    own.save(GATE)
    own.remove("shop.gate")
    own.remove("../../etc/passwd")
    assert own.all() == ()
    assert own.rereader()("gate alice refused", "shop.gate").format == "unknown"


@pytest.mark.parametrize("text", ["name: sshd\npattern: a", "name: x\npattern: a\ncategory: nonsense"])
def test_names_of_the_house_and_categories_that_do_not_exist_are_refused(own, text, tmp_path):
    with pytest.raises(DecoderError):
        own.save(text)
    assert not os.path.exists(tmp_path / "decoders")


def test_a_source_whose_decoder_was_taken_away_is_read_by_all(own):
    own.save(GATE)
    assert "shop.gate" in own.formats()
    assert known_format("shop.gate", own.registry()) == "shop.gate"
    own.remove("shop.gate")
    assert "shop.gate" not in own.formats()
    assert known_format("shop.gate", own.registry()) == "auto"
