"""The history of messages: what was told, to whom, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from threatlens.store_database import Database

PENDING, SENT, FAILED, SUPPRESSED = "pending", "sent", "failed", "suppressed"


@dataclass(frozen=True, slots=True)
class NotificationView:
    """A row of notification_history."""

    id: int
    event_id: int  # 0: none
    incident_id: int
    kind: str
    channel: str
    rule: str
    status: str
    severity: int
    title: str
    n: int
    tries: int
    created_at: int
    sent_at: int
    next_try_us: int
    error_message: str
    transcript: str

    @property
    def unanswered(self) -> bool:
        """Whether it counts as sent although no answer was seen."""
        return self.status == SENT and bool(self.error_message)

    @property
    def shown_as(self) -> str:
        return "unanswered" if self.unanswered else self.status

    @property
    def can_be_resent(self) -> bool:
        return self.status == FAILED or self.unanswered


_VIEW = (
    "id, event_id, incident_id, notification_type, channel, rule, status, severity, title, n, tries, created_at,"
    " coalesce(sent_at, 0), next_try_us, coalesce(error_message, ''), transcript"
)


class Told:
    """Reads the table notification_history."""

    database: Database

    def notification(self, notification_id: int) -> tuple[NotificationView, str] | None:
        """One message, and its payload: JSON, "" before it was put together."""
        with self.database.reading() as connection:
            row = connection.exec_driver_sql(
                f"SELECT {_VIEW}, payload FROM notification_history WHERE id = ?", (notification_id,)
            ).one_or_none()
        return None if row is None else (NotificationView(*row[:-1]), str(row[-1]))

    def notifications_about(self, incident_id: int, channels: Sequence[str], limit: int = 50) -> list[NotificationView]:
        """What these channels, and those that ever sent something, were told of one incident; the newest first."""
        threads = (f"incident:{incident_id}", f"incident:{incident_id}:success")
        marks = ",".join("?" * len(channels)) or "''"
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                f"SELECT {_VIEW} FROM notification_history WHERE thread IN (?, ?) AND (channel IN ({marks})"
                " OR channel IN (SELECT channel FROM channel_states)) ORDER BY id DESC LIMIT ?",
                (*threads, *channels, limit),
            ).all()
        return [NotificationView(*row) for row in rows]

    def waiting(self) -> dict[str, int]:
        """How many messages wait, by channel."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT channel, count(*) FROM notification_history WHERE status = 'pending' GROUP BY channel"
            )
            return {row[0]: int(row[1]) for row in rows}

    def notifications(
        self, *, status: str = "", channel: str = "", before: int | None = None, limit: int = 50
    ) -> list[NotificationView]:
        """The newest first. The status may be "unanswered" too: those of the sent ones."""
        conditions: list[str] = ["1 = 1"]
        values: list[str | int] = []
        if status == "unanswered":
            status = SENT
            conditions.append("error_message IS NOT NULL")
        for column, value in (("status", status), ("channel", channel)):
            if value:
                conditions.append(f"{column} = ?")
                values.append(value)
        if before is not None:
            conditions.append("id < ?")
            values.append(before)
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(
                f"SELECT {_VIEW} FROM notification_history WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ?",
                (*values, limit),
            ).all()
        return [NotificationView(*row) for row in rows]
