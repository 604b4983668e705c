"""Answers to messages in the database: which were used, which links were withdrawn, and what an answer does.

That a link was used is written in the transaction of what it does, so that it does it once or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from threatlens.errors import AnswerError
from threatlens.store_accounts import Doer
from threatlens.store_audit import AuditLog
from threatlens.store_database import Database
from threatlens.store_detections import DetectionBook
from threatlens.store_incidents import ACKNOWLEDGED, OPEN, IncidentBook
from threatlens.store_mutes import Mute


@dataclass(frozen=True, slots=True)
class Asked:
    """The message that a link stood in."""

    channel: str
    incident_id: int
    used: bool  # this action of it


class AnswerBook(DetectionBook, IncidentBook):
    """The table notification_answers."""

    database: Database
    audit: AuditLog

    def asked(self, notification_id: int, incident_id: int, action: str) -> Asked:
        """The message, if its links still hold. Raises AnswerError."""
        with self.database.reading() as connection:
            return _asked(connection, notification_id, incident_id, action)

    def acknowledge_from_message(self, notification_id: int, incident_id: int, doer: Doer, now_us: int) -> bool:
        """Acknowledge the incident, once; False: it was not open any more. Raises AnswerError."""
        with self.database.writing() as connection:
            _use(connection, notification_id, incident_id, "acknowledge", doer, now_us)
            status = connection.exec_driver_sql("SELECT status FROM incidents WHERE id = ?", (incident_id,)).scalar()
            if status != OPEN:
                return False
            self._change_incident(
                connection, incident_id, None, doer, "acknowledged", "by a link in a message", {"status": ACKNOWLEDGED}
            )
            return True

    def mute_from_message(
        self, notification_id: int, incident_id: int, mutes: Sequence[Mute], doer: Doer, now_us: int
    ) -> None:
        """Put these mutes in force, once. Raises AnswerError."""
        with self.database.writing() as connection:
            _use(connection, notification_id, incident_id, "mute", doer, now_us)
            self._add_mutes(connection, [(mute, "by a link in a message") for mute in mutes], doer)

    def withdraw_answers(self, channel: str, doer: Doer, now_us: int) -> None:
        """Every link that was sent by this channel up to now does nothing any more."""
        with self.database.writing() as connection:
            connection.exec_driver_sql(
                "INSERT INTO channel_states (channel, failures, open_until_us, disabled, last_ok_us, last_error,"
                " answers_from_us) VALUES (?,0,0,'',0,'',?)"
                " ON CONFLICT (channel) DO UPDATE SET answers_from_us = excluded.answers_from_us",
                (channel, now_us),
            )
            self.audit.append(
                doer.name, doer.address, "answers.withdrawn", channel, {}, request_id=doer.request_id,
                connection=connection,
            )  # fmt: skip


def _asked(connection: Connection, notification_id: int, incident_id: int, action: str) -> Asked:
    row = connection.exec_driver_sql(
        "SELECT h.channel, h.created_at > coalesce(s.answers_from_us, 0), a.used_at IS NOT NULL"
        " FROM notification_history h LEFT JOIN channel_states s ON s.channel = h.channel"
        " LEFT JOIN notification_answers a ON a.notification_id = h.id AND a.action = ?"
        " WHERE h.id = ? AND h.incident_id = ?",
        (action, notification_id, incident_id),
    ).one_or_none()
    if row is None:
        raise AnswerError("unknown")
    if not row[1]:
        raise AnswerError("withdrawn")
    return Asked(row[0], incident_id, bool(row[2]))


def _use(connection: Connection, notification_id: int, incident_id: int, action: str, doer: Doer, now_us: int) -> None:
    if _asked(connection, notification_id, incident_id, action).used:
        raise AnswerError("used")
    connection.exec_driver_sql(
        "INSERT INTO notification_answers (notification_id, action, address, used_at) VALUES (?,?,?,?)",
        (notification_id, action, doer.address, now_us),
    )
