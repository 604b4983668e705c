"""Syslog's <PRI> number: facility and severity, as RFC 5424 section 6.2.1 names them."""

from __future__ import annotations

from threatlens.event import Fields

LEVELS = ("emergency", "alert", "critical", "error", "warning", "notice", "info", "debug")
FACILITIES = (
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp",
    "security", "console", "solaris-cron", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
)  # fmt: skip


def put_priority(fields: Fields, priority: int) -> None:
    """Set log.level and log.syslog.*; a number above 191 is none and is left out."""
    if priority <= 191:
        fields["log.syslog.priority"] = priority
        fields["log.syslog.facility.name"] = FACILITIES[priority >> 3]
        fields["log.level"] = LEVELS[priority & 7]
