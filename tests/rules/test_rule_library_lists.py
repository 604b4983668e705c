"""Lists of what is bad and files of places, from the data folder, in the engine that the pipeline is given."""

from __future__ import annotations

from types import SimpleNamespace

from threatlens.event import Decoded
from threatlens.rule_library import RuleLibrary

RULE = (
    "title: T\nid: 33333333-3333-4333-8333-333333333333\nlogsource: {category: web}\n"
    "detection: {a: {f: x}, condition: a}\n"
)


def library(tmp_path) -> RuleLibrary:
    store = SimpleNamespace(rule_states=dict)
    return RuleLibrary(SimpleNamespace(data=str(tmp_path)), store, roots=(str(tmp_path / "rules"),))


def test_a_list_of_the_data_folder_is_looked_into(tmp_path):
    (tmp_path / "rules" / "threats").mkdir(parents=True)
    (tmp_path / "rules" / "threats" / "blocked.txt").write_text("203.0.113.0/24\n")
    (tmp_path / "geo").mkdir()
    (tmp_path / "geo" / "broken.mmdb").write_bytes(b"x")
    event = (Decoded("sshd", 0, "", {"source.ip": "203.0.113.9"}), 0)

    (match,) = library(tmp_path).engine().detect([event]).matches
    assert match.rule_id == "threatlens-list-blocked"


def test_a_text_is_checked_without_being_saved(tmp_path):
    found = library(tmp_path)
    (tmp_path / "rules").mkdir()

    assert [rule.name for rule in found.check(RULE)[0]] == ["T"]
    assert [problem.line for problem in found.check(RULE + "level: 5\n")[1]] == [5]
    assert [problem.reason for problem in found.check("")[1]] == ["holds no rule"]
