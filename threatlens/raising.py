"""Raising: what is found beside the stream of lines becomes matches, incidents and messages as from a batch.

Threat lists that change and volumes that are unusual are looked into by jobs, long after the lines were stored. All of
what one look finds is one transaction, together with how far the look has come.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from threatlens.broadcaster import EventBroadcaster
from threatlens.detection import Decisions, told, write_findings
from threatlens.event import Decoded
from threatlens.incidents import Finding, times
from threatlens.mutes import settled
from threatlens.notices import of_incident
from threatlens.notifications import Happening, NotificationManager
from threatlens.store import EventStore
from threatlens.store_detections import CASE
from threatlens.store_incidents import ACKNOWLEDGED, FALSE_POSITIVE, Incident
from threatlens.store_notifications import write_occurrences
from threatlens.store_threats import raise_severities


class Late(NamedTuple):
    """A finding about stored events."""

    finding: Finding
    event_ids: tuple[int, ...]
    decoded: Decoded | None  # the last of those events
    source: str
    case: bool = False
    severities: tuple[tuple[int, int], ...] = ()  # of those events, by id, now that this is known


class Raiser:
    """Stores what was found late and tells of it. For any thread: each call is one transaction."""

    def __init__(
        self,
        store: EventStore,
        notifications: NotificationManager | None = None,
        broadcaster: EventBroadcaster | None = None,
        *,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._store = store
        self._notifications = notifications
        self._broadcaster = broadcaster
        self._clock_us = clock_us

    def raise_all(self, found: Sequence[Late], also: Callable[[Connection], None] = lambda _: None) -> None:
        """Store the findings, with what `also` writes in their transaction; raises StoreUnavailable."""
        now = self._clock_us()
        decisions = Decisions(self._store.rule_states(), self._store.mutes(now=now), self._store.rule_exceptions())
        judged = [self._judged(one, decisions, now) for one in found]
        with self._store.database.writing() as connection:
            also(connection)
            findings = settled(connection, self._store.audit, now, [finding for finding, _ in judged])
            judged = [(finding, ids) for finding, (_, ids) in zip(findings, judged, strict=True)]
            views, incidents = write_findings(connection, judged)
            raise_severities(connection, _severities(found, judged))
            if self._notifications is not None and incidents:
                happenings = [
                    self._happening(incident, found, [view.incident_id for view in views]) for incident in incidents
                    if incident.status not in (FALSE_POSITIVE, ACKNOWLEDGED)
                ]  # fmt: skip
                write_occurrences(connection, self._notifications.plan(happenings), 0, now)
        if self._broadcaster is not None:
            for update in told(views, incidents, now):
                self._broadcaster.publish_update(update)

    @staticmethod
    def _judged(one: Late, decisions: Decisions, now: int) -> tuple[Finding, tuple[int, ...]]:
        why, otherwise = decisions.suppression(one.finding.match, one.decoded, one.source, now)
        if one.case:
            why, otherwise = CASE, ()
        return one.finding._replace(suppressed=why, otherwise=otherwise), one.event_ids

    @staticmethod
    def _happening(incident: Incident, found: Sequence[Late], of_incidents: Sequence[int]) -> Happening:
        mine = [one for one, number in zip(found, of_incidents, strict=True) if number == incident.id]
        last = mine[-1]
        n = sum(times(one.finding.match) for one in mine)
        return of_incident(incident, last.finding.category, last.source, n=n)


def _severities(found: Sequence[Late], judged: Sequence[tuple[Finding, tuple[int, ...]]]) -> Mapping[int, int]:
    """The severity of every event that a match says something new about; one that is kept quiet says nothing."""
    worst: dict[int, int] = {}
    for one, (finding, _) in zip(found, judged, strict=True):
        for event_id, severity in one.severities if finding.suppressed in ("", CASE) else ():
            worst[event_id] = max(severity, worst.get(event_id, 0))
    return worst
