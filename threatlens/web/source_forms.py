"""The form of one source. What may be in it is decided by the configuration alone; the form only knows the fields.

So that a form, threatlens.yaml and the command line can never disagree, nothing is validated here.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Mapping
from typing import Any

from flask_wtf import FlaskForm
from wtforms import BooleanField, DecimalField, IntegerField, SelectChoice, SelectField, StringField
from wtforms.validators import Optional

from threatlens.errors import ConfigError
from threatlens.sources.base import LogSourceConfig
from threatlens.web.context import services

DEFAULTS = LogSourceConfig(source_id=0, source_name="", path="")


class SourceForm(FlaskForm):  # type: ignore[misc]
    """One source of files; the fields are named as the keys of threatlens.yaml."""

    name = StringField("Name", description="Short and unique; it is shown beside every event.")
    path = StringField("Path", description="A file, a folder, or a pattern such as /var/log/nginx/*.log.")
    format = SelectField(
        "Format",
        description="What its lines are. Found out line by line unless you name it.",
    )
    start_at = SelectField(
        "Start at",
        choices=[
            SelectChoice("beginning", "the beginning: read what is there already"),
            SelectChoice("end", "the end: only what comes now"),
        ],
        description="For files that ThreatLens has never seen.",
    )
    timezone = StringField("Time zone", description="Of timestamps that name none, such as Europe/Berlin.")
    learn_timezone = BooleanField("Learn the zone from when its lines arrive, while it is UTC")
    priority = IntegerField("Priority", [Optional()], description="1 is read first, 10 last.")
    polling_interval = DecimalField(
        "Look every", [Optional()], places=None, description="Seconds; only where the system cannot tell of changes."
    )
    file_pattern = StringField("Files named", description="For a folder: which of its files, such as *.log.")
    recursive = BooleanField("Folders in it, too")
    enabled = BooleanField("Watch it")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        names = sorted(services().own_decoders.formats())
        self.format.choices = [
            SelectChoice("auto", "found out by itself"),
            *(SelectChoice(name, name) for name in names),
        ]

    def values(self) -> dict[str, Any]:
        """The fields as the configuration takes them; what was left empty takes its default."""
        values = {
            field.short_name: field.data for field in self if field.short_name not in ("csrf_token", "file_pattern")
        }
        for name in ("timezone", "priority", "polling_interval"):
            if values[name] in (None, ""):
                values[name] = getattr(DEFAULTS, name)
        values["polling_interval"] = float(values["polling_interval"])
        values["file_pattern"] = self.file_pattern.data or None
        return values

    def blame(self, error: ConfigError) -> bool:
        """Show the error beside the field it is about; False when it is about none."""
        name = error.key.rpartition(".")[2]
        if name not in self._fields:
            return False
        self._fields[name].errors = [*self._fields[name].errors, f"{error.message[:1].upper()}{error.message[1:]}"]
        return True


def as_form_data(name: str, path: str, enabled: bool, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a form shows of a source that is there."""
    names = (
        "format", "start_at", "timezone", "learn_timezone", "priority", "polling_interval", "file_pattern", "recursive",
    )  # fmt: skip
    known = {key: settings.get(key, getattr(DEFAULTS, key)) for key in names}
    return {"name": name, "path": path, "enabled": enabled, **known}


def time_zones() -> list[str]:
    """Names to choose from."""
    return sorted(name for name in zoneinfo.available_timezones() if "/" in name and not name.startswith("Etc/"))
