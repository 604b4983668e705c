"""What a configuration may say: every key, its type, its range, its default.

One table per section, one function per kind of value. The same checks serve threatlens.yaml, the settings saved in
the database and what a form or the command line hands in. Every mistake is found, not only the first.
"""

from __future__ import annotations

import codecs
import difflib
import ipaddress
import os
import re
import zoneinfo
from collections.abc import Collection, Mapping
from typing import Any

from threatlens.config_file import Entry, Listing, Node, Scalar, Section, yaml_meaning
from threatlens.config_kinds import (
    Kind,
    Reading,
    boolean,
    checked_name,
    choice,
    listing,
    named,
    nearest,
    number,
    read_section,
    text,
    text_of,
    whole,
)
from threatlens.config_paths import check_file_pattern, check_root, has_wildcard
from threatlens.config_values import (
    AppriseChannel,
    Channel,
    EmailChannel,
    LlmConfig,
    NotificationRule,
    Secret,
    SlackChannel,
    SmtpServer,
    ThreatListConfig,
    WebhookChannel,
)
from threatlens.errors import ConfigError, SecretError
from threatlens.outbound_urls import ANYWHERE, Network, Permissions, check_url, refusal
from threatlens.sources.base import LogSourceConfig
from threatlens.vault import is_sealed

_LIST_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,79}")
_HOURS = re.compile(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d")
#: RFC 5322's dot-atom on both sides, in any script: what can stand in the header of a mail as it is.
_MAIL_ATOM = r"[^@\s.()<>\[\]:;,\\\"]+"
_MAIL_ADDRESS = re.compile(rf"{_MAIL_ATOM}(\.{_MAIL_ATOM})*@{_MAIL_ATOM}(\.{_MAIL_ATOM})*")
_SERVICE_URL = re.compile(r"[a-z][a-z0-9]{1,20}://[!-~]{1,4000}", re.IGNORECASE)
_UNFIT_ENCODINGS = frozenset({"idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined"})


# --- checks of single values


def _timezone(value: str) -> str:
    try:
        zoneinfo.ZoneInfo(value)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError) as error:
        known = zoneinfo.available_timezones()
        close = difflib.get_close_matches(value, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ", such as Europe/Berlin or UTC"
        raise ConfigError(f"{value[:60]!r} is not the name of a time zone{hint}") from error
    return value


def _encoding(value: str) -> str:
    if value == "auto":
        return value
    try:
        "\n".encode(value)  # refuses codecs that are not of text, such as hex
        name = codecs.lookup(value).name
    except (LookupError, ValueError) as error:
        raise ConfigError(f"{value[:60]!r} is not an encoding of text, such as utf-8 or latin-1") from error
    if name.replace("_", "-") in _UNFIT_ENCODINGS:
        raise ConfigError(f"{value!r} is not an encoding of log files")
    return value


def _format(node: Node, _key: str, reading: Reading) -> str:
    value = text_of(node)
    if value != "auto" and value not in reading.formats:
        close = difflib.get_close_matches(value, reading.formats, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ConfigError(f"{value[:60]!r} is not one of{hint}: auto, {', '.join(sorted(reading.formats))}")
    return value


def _root(node: Node, _key: str, reading: Reading) -> str:
    return check_root(text_of(node), whole_file_system=reading.whole_file_system)


def _roots(node: Node, key: str, reading: Reading) -> tuple[str, ...]:
    roots: tuple[str, ...] = listing(_root)(node, key, reading)
    if isinstance(node, Listing) and not node.items:
        raise ConfigError("must name at least one folder")
    return roots


def _network(node: Node, _key: str, _reading: Reading) -> Network:
    value = text_of(node)
    try:
        network = ipaddress.ip_network(value)
    except ValueError as error:
        raise ConfigError(f"{value[:60]!r} is not a network, such as 10.0.0.0/8") from error
    if network.is_global:
        raise ConfigError(f"{network} is not a private network; public addresses need no permission")
    return network


def _mail_address(value: str) -> str:
    if not _MAIL_ADDRESS.fullmatch(value):
        raise ConfigError(f"{value[:60]!r} is not a mail address")
    return value


def _mail_server(value: str) -> str:
    if reason := refusal(value.lower().rstrip("."), 0, ANYWHERE):
        raise ConfigError(reason)
    return value


def _url(node: Node, _key: str, reading: Reading) -> str:
    return check_url(text_of(node), reading.outbound)


def _secret(node: Node, key: str, reading: Reading) -> Secret:
    if not isinstance(node, Scalar) or yaml_meaning(node):
        raise ConfigError("must be text in quotes, better env:NAME or file:/path")  # the value is never shown
    if not node.text:
        raise ConfigError("must not be empty")
    if reading.unseal and is_sealed(node.text):
        try:
            return Secret(reading.unseal(node.text))
        except SecretError as error:  # the rest of it is in force all the same
            reading.lost.append(ConfigError(str(error), file=reading.file, key=key))
            return Secret(node.text)
    secret = Secret(node.text)
    secret.check()
    if not (secret.is_clear or reading.references):
        raise ConfigError("env: and file: can be used in threatlens.yaml only")
    reading.open_secrets.append(key)
    if secret.is_clear:
        reading.clear_secrets.append(key)
    return secret


def _secret_url(node: Node, key: str, reading: Reading) -> Secret:
    secret = _secret(node, key, reading)
    if secret.is_clear:
        check_url(secret.reference, reading.outbound)
    return secret


def _service_url(node: Node, key: str, reading: Reading) -> Secret:
    secret = _secret(node, key, reading)
    if secret.is_clear and not _SERVICE_URL.fullmatch(secret.reference):
        raise ConfigError("is not a URL of Apprise, such as ntfy://ntfy.example.org/topic")
    return secret


# --- sections

SOURCE_KEYS: Mapping[str, Kind] = {
    "name": text(100, checked_name),
    "path": text(10_000),
    "format": _format,
    "enabled": boolean,
    "start_at": choice("beginning", "end"),
    "polling_interval": number(0.05, 3600, "seconds"),
    "file_pattern": text(1000, check_file_pattern),
    "recursive": boolean,
    "timezone": text(60, _timezone),
    "learn_timezone": boolean,
    "encoding": text(40, _encoding),
    "priority": whole(1, 10),
}


def read_source(node: Node, key: str, reading: Reading) -> LogSourceConfig | None:
    """One source; its id is not known here. None: something is wrong with it, and noted."""
    before = len(reading.errors)
    values = read_section(node, key, reading, SOURCE_KEYS, required=("name", "path"))
    entries = node.entries if isinstance(node, Section) else {}
    if "path" in values:
        recursive = values.get("recursive", False)
        try:
            values["path"] = reading.rules.check(values["path"], recursive=recursive)
        except ConfigError as error:
            reading.refuse(entries["path"].value, f"{key}.path", error.message)
        for name in ("file_pattern", "recursive"):
            if values.get(name) and has_wildcard(values["path"]):
                reading.refuse(entries[name], f"{key}.{name}", "is for folders; this path is a glob, let it say it all")
    if values.get("name") in reading.taken:
        message = f"{values['name']!r} is the name of another source, which is not read from files"
        reading.refuse(entries["name"].value, f"{key}.name", message)
    if len(reading.errors) > before:
        return None
    return LogSourceConfig(source_id=0, source_name=values.pop("name"), roots=reading.rules.roots, **values)


_SMTP_KEYS: Mapping[str, Kind] = {
    "host": text(253, _mail_server),
    "port": whole(1, 65535),
    "username": text(),
    "password": _secret,
    "tls": choice("none", "starttls", "tls"),
}


def _smtp(node: Node, key: str, reading: Reading) -> SmtpServer:
    return SmtpServer(**read_section(node, key, reading, _SMTP_KEYS))


def _hours(value: str) -> str:
    if not _HOURS.fullmatch(value):
        raise ConfigError(f"{value[:40]!r} is not a span of the day, such as 22:00-07:00")
    return value


_NAME_AND_TYPE: Mapping[str, Kind] = {
    "name": text(100, checked_name),
    "type": choice("email", "slack", "webhook", "apprise"),
}
_CALM: Mapping[str, Kind] = {
    "max_per_minute": whole(2, 600),
    "quiet_hours": text(20, _hours),
    "quiet_below": whole(1, 10),
}
_CHANNELS: Mapping[str, tuple[type[Channel], Mapping[str, Kind], tuple[str, ...]]] = {
    "email": (
        EmailChannel,
        {"to": listing(text(254, _mail_address)), "sender": text(254, _mail_address), "smtp": _smtp},
        ("to",),
    ),
    "slack": (SlackChannel, {"url": _secret_url}, ("url",)),
    "webhook": (WebhookChannel, {"url": _url, "secret": _secret}, ("url",)),
    "apprise": (AppriseChannel, {"url": _service_url}, ("url",)),
}


def _channel(node: Node, key: str, reading: Reading) -> Channel | None:
    before = len(reading.errors)
    entries = node.entries if isinstance(node, Section) else {}
    type_node = entries["type"].value if "type" in entries else None
    kind = type_node.text if isinstance(type_node, Scalar) and type_node.text in _CHANNELS else ""
    if not kind:
        known = {name: entry for name, entry in entries.items() if name in _NAME_AND_TYPE}
        read_section(Section(known, node.line, node.column), key, reading, _NAME_AND_TYPE, ("name", "type"))
        return None
    build, table, required = _CHANNELS[kind]
    values = read_section(node, key, reading, {**_NAME_AND_TYPE, **_CALM, **table}, ("name", *required))
    return build(**values) if len(reading.errors) == before else None


_RULE_KEYS: Mapping[str, Kind] = {
    "name": text(100, checked_name),
    "min_severity": whole(1, 10),
    "max_severity": whole(1, 10),
    "categories": listing(text(60)),
    "sources": listing(text(100)),
    "rules": listing(text(100)),
    "hours": text(20, _hours),
    "cooldown_minutes": whole(0, 10_080),
    "digest_minutes": whole(0, 10_080),
    "channels": listing(text(100)),
    "enabled": boolean,
}


def _rule(node: Node, key: str, reading: Reading) -> NotificationRule | None:
    before = len(reading.errors)
    values = read_section(node, key, reading, _RULE_KEYS, required=("name", "channels"))
    if values.get("min_severity", 1) > values.get("max_severity", 10):
        reading.refuse(node, f"{key}.min_severity", "must not be above max_severity")
    _check_channels(values, node, key, reading)
    return NotificationRule(**values) if len(reading.errors) == before else None


def _check_channels(values: Mapping[str, Any], node: Node, key: str, reading: Reading) -> None:
    for name in values.get("channels", ()):
        if name not in reading.channels:
            message = f"no channel is named {name!r}{nearest(name, reading.channels)}"
            reading.refuse(node, f"{key}.channels", message, dangling=True)


_RETENTION_KEYS: Mapping[str, Kind] = {
    "events_days": whole(1, 36500),
    "incidents_days": whole(1, 36500),
    "metrics_days": whole(1, 36500),
    "max_database_gb": number(0.01, 1_000_000, "GB"),
}
_LLM_KEYS: Mapping[str, Kind] = {
    "enabled": boolean,
    "provider": text(60),
    "base_url": text(2000),
    "model": text(),
    "api_key": _secret,
    "hourly_budget": whole(1, 10_000),
    "input_price": number(0, 100_000, "of the currency"),
    "output_price": number(0, 100_000, "of the currency"),
    "currency": text(10),
}


_ANSWER_KEYS: Mapping[str, Kind] = {"enabled": boolean, "valid_hours": whole(1, 720), "mute_hours": whole(1, 720)}


def _answers(node: Node, key: str, reading: Reading) -> dict[str, Any]:
    return read_section(node, key, reading, _ANSWER_KEYS)


_REPORT_KEYS: Mapping[str, Kind] = {
    "daily": boolean,
    "weekly": boolean,
    "monthly": boolean,
    "timezone": text(60, _timezone),
    "keep_days": whole(0, 36500),
    "channels": listing(text(100)),
}


def _reports(node: Node, key: str, reading: Reading) -> dict[str, Any]:
    values = read_section(node, key, reading, _REPORT_KEYS)
    _check_channels(values, node, key, reading)
    return values


def _list_name(value: str) -> str:
    if not _LIST_NAME.fullmatch(value):
        raise ConfigError("the name has letters, digits, dots, - and _, at most 80")
    return value


_THREAT_LIST_KEYS: Mapping[str, Kind] = {
    "name": text(80, _list_name),
    "url": text(2000),
    "every_hours": whole(1, 720),
}


def _threat_list(node: Node, key: str, reading: Reading) -> ThreatListConfig | None:
    before = len(reading.errors)
    values = read_section(node, key, reading, _THREAT_LIST_KEYS, required=("name", "url"))
    if values.get("url"):
        entry = node.entries["url"] if isinstance(node, Section) else Entry(node)
        try:
            check_url(values["url"], reading.outbound)
        except ConfigError as error:
            reading.refuse(entry.value, f"{key}.url", error.message)
    return ThreatListConfig(**values) if len(reading.errors) == before else None


_HEARTBEAT_KEYS: Mapping[str, Kind] = {"url": _secret_url, "minutes": whole(1, 1440)}


def _folder(value: str) -> str:
    if not os.path.isabs(value) or ".." in value.split("/"):
        raise ConfigError(f"{value[:60]!r} is not a whole path, from '/' on")
    return value


_BACKUP_KEYS: Mapping[str, Kind] = {
    "folder": text(1000, _folder),
    "every_hours": whole(1, 8760),
    "keep": whole(1, 1000),
}


def _heartbeat(node: Node, key: str, reading: Reading) -> dict[str, Any]:
    return read_section(node, key, reading, _HEARTBEAT_KEYS)


def _backup(node: Node, key: str, reading: Reading) -> dict[str, Any]:
    return read_section(node, key, reading, _BACKUP_KEYS)


def _retention(node: Node, key: str, reading: Reading) -> dict[str, Any]:
    return read_section(node, key, reading, _RETENTION_KEYS)


def _llm(node: Node, key: str, reading: Reading) -> dict[str, Any]:
    values = read_section(node, key, reading, _LLM_KEYS)
    if values.get("base_url"):
        # Where it may not be reached matters only once it is used.
        permissions = reading.outbound if values.get("enabled") else _EVERYTHING
        entry = node.entries["base_url"] if isinstance(node, Section) else Entry(node)
        try:
            check_url(values["base_url"], permissions)
        except ConfigError as error:
            reading.refuse(entry.value, f"{key}.base_url", error.message)
    elif values.get("enabled", LlmConfig().enabled):
        reading.refuse(node, f"{key}.base_url", "is missing")
    return values


_EVERYTHING = Permissions((ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")))

LIMIT_KEYS: Mapping[str, Kind] = {
    "allow_root_filesystem": boolean,
    "allowed_roots": _roots,
    "allowed_private_networks": listing(_network),
    "allowed_ports": listing(whole(1, 65535)),
}
SETTING_KEYS: Mapping[str, Kind] = {
    "processing_batch_size": whole(1, 20_000),
    "max_queue_size": whole(100, 10_000_000),
    "health_check_interval": whole(1, 3600),
    "retention": _retention,
    "answers": _answers,
    "reports": _reports,
    "channels": named(_channel, "channels"),
    "llm": _llm,
    "heartbeat": _heartbeat,
    "backup": _backup,
    "notification_rules": named(_rule, "notification rules"),
    "threat_lists": named(_threat_list, "threat lists"),
}
DOCUMENT_KEYS: Mapping[str, Kind] = {
    **LIMIT_KEYS,
    **SETTING_KEYS,
    "sources": named(read_source, "sources"),
}


def read_limits(root: Section, reading: Reading) -> dict[str, Any]:
    """The settings on which the checks of all others depend."""
    flag = root.entries.get("allow_root_filesystem")
    reading.whole_file_system = bool(
        flag
        and isinstance(flag.value, Scalar)
        and flag.value.plain
        and flag.value.text.lower() in {"true", "yes", "on"}
    )
    return read_section(_only(root, LIMIT_KEYS), "", reading, LIMIT_KEYS)


def read_rest(root: Section, reading: Reading) -> dict[str, Any]:
    """All settings but the limits, which the reading holds by now; unknown keys are noted."""
    reading.channels |= names_in(root, "channels")
    table = {key: kind for key, kind in DOCUMENT_KEYS.items() if key not in LIMIT_KEYS}
    unknown = {key: entry for key, entry in root.entries.items() if key not in DOCUMENT_KEYS}
    for key, entry in unknown.items():
        reading.refuse(entry, key[:60], f"unknown key{nearest(key, DOCUMENT_KEYS)}")
    return read_section(_only(root, table), "", reading, table)


def names_in(root: Section, key: str) -> frozenset[str]:
    """The names of the things in a list of named sections, right or wrong."""
    entry = root.entries.get(key)
    items = entry.value.items if entry and isinstance(entry.value, Listing) else ()
    found = [item.entries["name"].value for item in items if isinstance(item, Section) and "name" in item.entries]
    return frozenset(name.text for name in found if isinstance(name, Scalar))


def _only(root: Section, keys: Collection[str]) -> Section:
    return Section({key: entry for key, entry in root.entries.items() if key in keys}, root.line, root.column)
