"""cron daemons (Vixie, cronie, anacron) and crontab: what ran, whose table changed."""

from __future__ import annotations

from typing import Any

from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.tables import Table, row

_PROCESS: dict[str, Any] = {"category": "process"}
_CONFIGURATION: dict[str, Any] = {"category": "configuration"}

_TABLE = Table(
    {
        "": [
            row(r"\((?P<user>[^()]+)\) CMD \((?P<command>.*)\)", "cron_command", **_PROCESS),
            row(r"\((?P<user>[^()]+)\) (?:CMDOUT|CMDEND|MAIL|END) \((?P<reason>.*)\)", "cron_output", **_PROCESS),
            row(
                r"\((?P<user>[^()]+)\) (?:REPLACE|DELETE) \((?P<target>[^()]*)\)",
                "crontab_changed",
                "success",
                **_CONFIGURATION,
            ),
            row(
                r"\((?P<user>[^()]+)\) (?:BEGIN EDIT|END EDIT|LIST) \((?P<target>[^()]*)\)",
                "crontab_opened",
                **_CONFIGURATION,
            ),
            row(r"\((?P<user>[^()]+)\) RELOAD \((?P<file>.*)\)", "crontab_loaded", **_CONFIGURATION),
            row(r"\((?P<user>[^()]+)\) AUTH \((?P<reason>.*)\)", "cron_denied", "failure"),
            row(r"\((?P<user>[^()]+)\) (?:FAILED|PAM ERROR) (?P<reason>.*)", "cron_denied", "failure"),
            row(
                r"\((?P<user>[^()]+)\) (?:error|ERROR|WARNING|WRONG FILE OWNER|ORPHAN) \((?P<reason>.*)\)",
                "cron_error",
                level="warning",
                **_PROCESS,
            ),
            row(r"\((?:CRON|crond?)\) (?:INFO|STARTUP|DEATH|BAD) \((?P<reason>.*)\)", "cron_info", **_PROCESS),
        ],
        "Job": [row(r"Job `(?P<command>[^']*)' (?P<reason>started|terminated).*", "cron_command", **_PROCESS)],
        "Anacron": [row(r"Anacron .*", "cron_info", **_PROCESS)],
        "Normal": [row(r"Normal exit .*", "cron_info", **_PROCESS)],
    }
)

DECODER = MessageDecoder(
    name="cron",
    about="cron daemons: commands run, crontabs changed, refusals.",
    read=_TABLE.read,
    programs=("CRON", "cron", "crond", "crontab", "anacron", "CROND"),
)
