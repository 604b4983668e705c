"""The severity is the sum that is shown, and it wakes people for what succeeded only."""

from __future__ import annotations

import itertools

import pytest

from threatlens.analyzers.severity import CEILINGS, Raised, of_event, of_incident, total
from threatlens.event import LEVEL_SEVERITIES, Decoded

GUESSING = ("attack.credential-access", "attack.t1110.001")
STAY = ("attack.persistence", "attack.t1136.001")


def match(level: str = "high", tags=STAY, *, kind="rule", events=1, rule_id="r1", name="A rule") -> Raised:
    return Raised(rule_id, name, level, LEVEL_SEVERITIES[level], kind, events, tags)


def line(**fields) -> Decoded:
    return Decoded("sshd", 0, "text", {name.replace("__", "."): value for name, value in fields.items()})


FAILED = line(event__action="ssh_login", event__outcome="failure", event__category="authentication", user__name="root")
ENTERED = line(event__action="ssh_login", event__outcome="success", event__category="authentication", user__name="anna")
AS_ROOT = line(event__action="ssh_login", event__outcome="success", event__category="authentication", user__name="root")


def names(factors):
    return {factor.name: factor.points for factor in factors}


def test_a_line_without_a_match_is_its_own_severity_and_says_why():
    (factor,) = of_event(FAILED, [])
    assert (factor.name, factor.points) == ("line", 4)
    assert factor.why == "What the line says by itself: action ssh_login, outcome failure."


def test_what_only_tried_wakes_nobody_however_bad_the_rule_is():
    for level in LEVEL_SEVERITIES:
        assert total(of_event(FAILED, [match(level, GUESSING, kind="correlation", events=5_000)])) <= 7


def test_a_success_of_a_high_rule_wakes_somebody_and_root_is_worse():
    assert total(of_event(ENTERED, [match()])) == 8
    assert total(of_event(AS_ROOT, [match()])) == 9
    assert names(of_event(AS_ROOT, [match()])) == {"line": 2, "rule": 6, "success": 0, "target": 1}


def test_a_medium_rule_stays_below_waking_whatever_comes_together():
    worst = [match("medium", events=1_000_000), match("low", kind="novelty"), match("low", rule_id="threatlens-list-x")]
    factors = of_event(AS_ROOT, worst)
    assert total(factors) == 7
    assert names(factors)["level"] < 0
    assert {"volume", "novelty", "threat_list"} <= names(factors).keys()


def test_a_changed_host_key_is_no_success():
    warned = match(tags=("attack.credential-access", "attack.t1557"))
    factors = of_event(line(event__category="other"), [warned])
    assert "success" not in names(factors)
    assert total(factors) == 7, "it may be an attack, and nobody has seen it succeed"


def test_a_listed_address_that_got_in_is_told_apart_from_one_that_knocks():
    listed = match(tags=(), rule_id="threatlens-list-feodo")
    assert total(of_event(FAILED, [listed])) == 7
    assert total(of_event(ENTERED, [listed])) == 8
    assert "threat_list" in names(of_event(ENTERED, [listed, match()]))


def test_an_answered_web_request_proves_nothing_and_a_web_shell_that_answers_does():
    request = line(event__category="web", event__action="http_request", http__response__status_code=200)
    assert total(of_event(request, [match(tags=("attack.initial-access", "attack.t1190"))])) == 7
    assert total(of_event(request, [match("critical", ("attack.persistence", "attack.t1505.003"))])) == 10


@pytest.mark.parametrize("tag", ["attack.t1003.001", "attack.t1490", "attack.t1485"])
def test_dumped_passwords_and_destroyed_data_are_no_attempts(tag):
    done = line(event__category="process")
    assert total(of_event(done, [match("critical", ("attack.impact", tag))])) == 10


def test_the_sum_of_the_factors_is_between_the_line_and_ten_for_every_combination():
    decoded = [FAILED, ENTERED, AS_ROOT, line(), line(log__level="emergency", event__category="web")]
    choices = [match(level, tags, kind=kind, events=events, rule_id=rule)
               for level in LEVEL_SEVERITIES for tags in (GUESSING, STAY, ()) for kind in ("rule", "novelty")
               for events in (1, 500) for rule in ("r1", "threatlens-list-x")]  # fmt: skip
    for one, (first, second) in itertools.product(decoded, itertools.combinations(choices, 2)):
        factors = of_event(one, [first, second])
        alone = total(of_event(one, []))
        assert alone <= total(factors) <= max(alone, *(CEILINGS[each.level] for each in (first, second)))


def test_an_incident_adds_stages_and_target_and_is_capped_while_it_is_an_attempt():
    story = [match(tags=GUESSING), match(), match(tags=("attack.defense-evasion", "attack.t1070"))]
    tried = of_incident(story, success=False, tried=True, users=(), many=4_000)
    assert total(tried) == 7
    done = of_incident(story, success=True, tried=False, users=["root"], many=4)
    assert names(done) == {"rule": 8, "success": 0, "target": 1, "stages": 1, "level": -1}
    assert total(done) == 9


def test_an_odd_value_of_a_field_changes_nothing():
    odd = Decoded("json", 0, "x", {"event.outcome": ["success"], "user.name": ["root"], "event.action": 7})
    assert 1 <= total(of_event(odd, [match()])) <= 10
