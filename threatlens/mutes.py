"""Mutes: until when they last, what ends them before, and which matches of a batch they keep quiet.

Whether what a mute waits for has come is decided in the transaction that stores the matches, from the mutes as they
stand there; so of two matches in one batch the one that ends a mute is told, and so is every one behind it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from sqlalchemy import Connection

from threatlens.event import RuleMatch
from threatlens.incidents import Finding, outcome, times
from threatlens.store_audit import AuditLog
from threatlens.store_incidents import LOG_SOURCE, SUCCESS, Incident
from threatlens.store_mutes import MORE, MUTED, OTHER, WORSE, Mute, end_by_itself, mutes_of

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
#: When a morning begins, where the person is who mutes.
MORNING = dt.time(8)
#: A mute that waits for something ends after this, come what may.
MOST_DAYS = 365
MORNINGS = ("morning", "week")
#: Spans: the word in forms and in the API, and microseconds.
SPANS: Mapping[str, int] = MappingProxyType(
    {"1h": HOUR_US, "8h": 8 * HOUR_US, "1d": DAY_US, "7d": 7 * DAY_US, "30d": 30 * DAY_US, "365d": 365 * DAY_US}
)
_SPAN_WORDS = {"1h": "1 hour", "8h": "8 hours", "1d": "a day", "7d": "7 days", "30d": "30 days", "365d": "a year"}
#: Every choice, in the order in which they are offered, and those that are offered in one click.
LASTING = ("1h", "8h", *MORNINGS, WORSE, OTHER, MORE, "1d", "7d", "30d", "365d")
QUICK = LASTING[:7]
#: Of so many further matches the last one is told.
USUAL_COUNT, MOST_COUNT = 10, 100_000
#: The part of a mute's scope that names the subject of an incident.
SUBJECTS: Mapping[str, str] = MappingProxyType(
    {"source.ip": "source_ip", "user.name": "user_name", "host.name": "host_name", LOG_SOURCE: "source"}
)


def morning_us(choice: str, now_us: int, zone: dt.tzinfo) -> int:
    """When the next morning begins there, or the Monday of next week, in microseconds since the epoch."""
    here = dt.datetime.fromtimestamp(now_us / 1e6, zone)
    if choice == "week":
        day = here.date() + dt.timedelta(days=7 - here.weekday())
    else:
        day = here.date() + dt.timedelta(days=int(here.time() >= MORNING))
    return round(dt.datetime.combine(day, MORNING, zone).timestamp()) * 1_000_000


def expires_us(choice: str, now_us: int, zone: dt.tzinfo) -> int:
    """When a mute of this choice (of LASTING) is over at the latest."""
    if choice in MORNINGS:
        return morning_us(choice, now_us, zone)
    return now_us + SPANS.get(choice, MOST_DAYS * DAY_US)


def lasting_words(choice: str, now_us: int, zone: dt.tzinfo, count: int = USUAL_COUNT) -> str:
    """The choice as a button says it: "1 hour", "until Monday 08:00", "until something more severe comes"."""
    if choice in SPANS:
        return _SPAN_WORDS[choice]
    if choice in MORNINGS:
        return f"until {day_words(morning_us(choice, now_us, zone), now_us, zone)}"
    return _waits(choice, count)


def until_words(mute: Mute, now_us: int, zone: dt.tzinfo) -> str:
    """Until when it lasts: "until Monday 08:00", "until 7 more come"."""
    if mute.condition:
        return _waits(mute.condition, max(mute.condition_n - mute.hits, 1))
    return f"until {day_words(mute.expires_us, now_us, zone)}"


def _waits(condition: str, n: int) -> str:
    if condition == WORSE:
        return "until something more severe comes"
    if condition == OTHER:
        return "until it is about another address or user"
    return f"until {n:,} more come" if n > 1 else "until 1 more comes"


def day_words(time_us: int, now_us: int, zone: dt.tzinfo) -> str:
    """A time to come in few words: "14:30", "tomorrow 08:00", "Monday 08:00", "3 Dec 08:00", "3 Jan 2027 08:00"."""
    then, here = (dt.datetime.fromtimestamp(us / 1e6, zone) for us in (time_us, now_us))
    days = (then.date() - here.date()).days
    if days == 0:
        return f"{then:%H:%M}"
    if days == 1:
        return f"tomorrow {then:%H:%M}"
    if 1 < days <= 7:
        return f"{then:%A %H:%M}"
    return f"{then.day} {then:%b %H:%M}" if then.year == here.year else f"{then.day} {then:%b %Y %H:%M}"


def of_incident(
    incident: Incident, choice: str, author: str, now_us: int, zone: dt.tzinfo, *, count: int = USUAL_COUNT
) -> Mute:
    """The mute that one click makes: of its subject; until somebody else comes: of what its worst rule finds."""
    kind, value = incident.subject
    worst = max(incident.members.values(), key=lambda member: member.severity)
    scope = {SUBJECTS[kind]: value} if kind in SUBJECTS and choice != OTHER else {"rule_id": worst.rule_id}
    named = {name: scope.get(name, "") for name in ("rule_id", *SUBJECTS.values())}
    mute = Mute(
        0, named["rule_id"], named["source_ip"], named["user_name"], named["source"], named["host_name"], "", author,
        incident.id, now_us, expires_us(choice, now_us, zone), 0, 0,
    )  # fmt: skip
    return waiting(mute, choice, incident, count)


def waiting(mute: Mute, choice: str, incident: Incident | None, count: int = USUAL_COUNT) -> Mute:
    """The same mute, which waits for what the choice names: worse, or other, than what is known of the incident."""
    members = incident.members.values() if incident else ()
    if choice == WORSE:
        worst = max((member.severity for member in members), default=1)
        known = (SUCCESS,) if incident and incident.outcome == SUCCESS else ()
        return _with(mute, WORSE, worst, known)
    if choice == OTHER:
        entities = incident.entities if incident else ()
        return _with(mute, OTHER, 0, tuple(f"{kind}={v}" for kind, v in entities if kind in ("source.ip", "user.name")))
    return _with(mute, MORE, count, ()) if choice == MORE else mute


def _with(mute: Mute, condition: str, n: int, known: tuple[str, ...]) -> Mute:
    return replace(mute, condition=condition, condition_n=n, known=known)


def ended_by(mute: Mute, finding: Finding, hits: int) -> str:
    """What of this match ends the mute, in words; "": nothing does. hits: matches that it has kept quiet by now."""
    match = finding.match
    if mute.condition == WORSE:
        if match.severity > mute.condition_n:
            return f"Something more severe came: {match.rule_name}."
        if outcome(finding) == SUCCESS and SUCCESS not in mute.known:
            return f"Something succeeded: {match.rule_name}."
    elif mute.condition == OTHER:
        other = [name for name in _about(match) if name not in mute.known]
        if other:
            kind, _, value = other[0].partition("=")
            return f"Another {'address' if kind == 'source.ip' else 'user'} came: {value[:100]}."
    elif mute.condition == MORE and hits + times(match) >= mute.condition_n:
        return f"It happened {mute.condition_n:,} more times."
    return ""


def _about(match: RuleMatch) -> list[str]:
    named = (("source.ip", match.source_ip), ("user.name", match.user_name))
    return [f"{kind}={value}" for kind, value in named if value]


def settled(connection: Connection, audit: AuditLog, now_us: int, findings: Sequence[Finding]) -> list[Finding]:
    """The findings with what really keeps each of them quiet, and the mutes ended that waited for one of them."""
    reasons = [(finding.suppressed, *finding.otherwise) for finding in findings]
    ids = {int(why[len(MUTED) :]) for those in reasons for why in those if why.startswith(MUTED)}
    if not ids:
        return list(findings)
    mutes = mutes_of(connection, sorted(ids))
    over = {mute.id for mute in mutes.values() if mute.ended_us}
    hits = {mute.id: mute.hits for mute in mutes.values()}
    done = []
    for finding, those in zip(findings, reasons, strict=True):
        why = ""
        for why in those:
            mute_id = int(why[len(MUTED) :]) if why.startswith(MUTED) else 0
            if mute_id in over:
                continue
            mute = mutes.get(mute_id)
            if mute is None:
                break
            ended = ended_by(mute, finding, hits[mute_id])
            if not ended:
                hits[mute_id] += times(finding.match)
                break
            over.add(mute_id)
            end_by_itself(connection, audit, mute, ended, now_us)
        else:
            why = ""
        done.append(finding._replace(suppressed=why, otherwise=()))
    return done
