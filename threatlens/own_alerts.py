"""What ThreatLens raises about itself and its sources: an incident like those of rules, told by the same channels.

Detection that is blind is what an attacker wants, so it is no line on a page for administrators only. Muting and notes
work as everywhere; there is no line that matched, so the incident is about a source.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

from threatlens.analyzers.attack import DETECTION_LOST, LINES_REMOVED, SOURCE_SILENT
from threatlens.broadcaster import EventBroadcaster
from threatlens.clock import now_us
from threatlens.detection import Decisions
from threatlens.event import LEVEL_SEVERITIES, EventUpdate, RuleMatch
from threatlens.incidents import Finding, fold, summary
from threatlens.mutes import settled
from threatlens.notices import of_incident
from threatlens.notifications import NotificationManager
from threatlens.rule_library import Advice
from threatlens.sources.losses import LinesLost
from threatlens.store import EventStore
from threatlens.store_detections import DetectionRow, write_detections
from threatlens.store_incidents import LOG_SOURCE, IncidentTable
from threatlens.store_notifications import write_occurrences

TAGS = MappingProxyType({LINES_REMOVED: ("attack.defense-evasion", "attack.t1070.002")})
ADVICE = MappingProxyType(
    {
        DETECTION_LOST: Advice(
            "Detection lost",
            "high",
            explanation="Lines of {log.source} still come, but what used to be read from them is not read any more. As"
            " a rule a program was updated and writes in another way: until its lines are understood again, rules do"
            " not see them.",
            recommendations=(
                "Look at the new shapes below and at what was updated on that machine.",
                "Draft a decoder from them, try it and save it; what comes next is read with it.",
                "If this is as it is to be, close the incident: what comes now is learned as usual.",
            ),
        ),
        SOURCE_SILENT: Advice(
            "Source gone silent",
            "high",
            explanation="At this hour of the week lines always came from {log.source}. Since some time there are none:"
            " the program or the machine stopped, its log goes elsewhere, or somebody keeps it from being written.",
            recommendations=(
                "Look whether the program that writes the log still runs, and where it writes to.",
                "Look at what wrote the log: systemctl status rsyslog systemd-journald auditd",
            ),
        ),
        LINES_REMOVED: Advice(
            "Lines removed from a log",
            "high",
            explanation="A file of {log.source} holds less than what was read from it, and no rotated copy holds the"
            " rest. Logs only grow: who takes lines out of them hides something. What was read is still here.",
            recommendations=(
                "Look at the events of this source up to now: what was removed from the file is among them.",
                "Find out who was logged in and what they ran: last -F; journalctl _COMM=sudo; ausearch -k logs",
                "Keep the evidence: copy the file and this incident before anything else changes.",
                "If this log is emptied on purpose, mute the rule for this source.",
            ),
            false_positives=(
                "A file that is written anew each time, such as a status page.",
                "Rotation that copies into a folder that is not watched.",
            ),
        ),
    }
)


@dataclass(frozen=True, slots=True)
class OwnAlert:
    """Something about a source."""

    rule_id: str  # of ADVICE
    source_id: int
    source_name: str
    event_id: int  # of the source's last event; 0: none is known
    note: str  # what exactly, put beside the incident
    since_us: int


def lines_removed(loss: LinesLost, event_id: int) -> OwnAlert:
    """What to raise about a file that lost lines."""
    note = (
        f"{loss.path} was {loss.how}: {loss.read_bytes:,} bytes had been read from it, {loss.left_bytes:,} were left."
    )
    return OwnAlert(LINES_REMOVED, loss.source_id, loss.source_name, event_id, note, int(loss.noticed_s * 1e6))


class OwnAlerts:
    """Raises them, each in a transaction of its own; for one thread."""

    def __init__(
        self,
        store: EventStore,
        notifications: NotificationManager,
        broadcaster: EventBroadcaster,
        *,
        clock_us: Callable[[], int] = now_us,
    ) -> None:
        self._store = store
        self._notifications = notifications
        self._broadcaster = broadcaster
        self._clock_us = clock_us

    def put(self, alert: OwnAlert) -> int:
        """The id of the incident, 0 when somebody wants none; raises StoreUnavailable, and nothing is written."""
        advice, now = ADVICE[alert.rule_id], self._clock_us()
        match = RuleMatch(
            alert.rule_id, advice.title, advice.level, LEVEL_SEVERITIES[advice.level], "rule", now, alert.since_us, 1,
            ((LOG_SOURCE, alert.source_name),), None, None, None, TAGS.get(alert.rule_id, ()), (),
        )  # fmt: skip
        store = self._store
        decisions = Decisions(store.rule_states(), store.mutes(now=now), store.rule_exceptions())
        why, otherwise = decisions.suppression(match, None, alert.source_name, now)
        finding = Finding(match, alert.event_id, alert.event_id, alert.source_id, "", "", why, otherwise)
        with store.database.writing() as connection:
            (finding,) = settled(connection, store.audit, now, [finding])
            table = IncidentTable(connection)
            (incident_id,), incidents = fold([finding], table)
            row = DetectionRow(
                match, alert.event_id, (alert.event_id,), alert.source_id, incident_id, finding.suppressed
            )
            views = write_detections(connection, [row])
            if incident_id:
                table.note(incident_id, alert.note)
            happenings = [of_incident(incident, "other", alert.source_name, timestamp_us=now) for incident in incidents]
            write_occurrences(connection, self._notifications.plan(happenings), 0, now)
        for view in views:
            if not view.suppressed:
                detection = EventUpdate("detection", view.as_json(), now, priority=view.severity, id=view.event_id)
                self._broadcaster.publish_update(detection)
        for incident in incidents:
            self._broadcaster.publish_update(
                EventUpdate("incident", summary(incident), now, priority=incident.severity)
            )
        return incident_id

    def note(self, incident_id: int, text: str) -> None:
        """Say more about an incident that was raised."""
        with self._store.database.writing() as connection:
            IncidentTable(connection).note(incident_id, text)
