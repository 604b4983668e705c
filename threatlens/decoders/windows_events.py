"""Windows events in all the shapes they travel in: XML, the JSON of .evtx readers, Winlogbeat's and NXLog's.

Whatever the shape, channel, number, provider and computer become ECS fields, the event's data stay under their own
names, and the numbers that matter to security get an action and an outcome. XML is turned into the objects that .evtx
readers write; a document type is refused, so that no entity can grow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

from threatlens.decoders.base import LineDecoder, ObjectDecoder, Opened, compiled, put_address, put_port
from threatlens.decoders.json_lines import flatten
from threatlens.decoders.times import Clock
from threatlens.event import FIELDS_CUT, TIME_ERROR, Fields

_START = compiled(r"\s*(?:<\?xml [^>]{0,200}\?>\s*)?<Event[\s>]").match
_LEVELS = {"1": "critical", "2": "error", "3": "warning", "4": "info", "5": "debug"}
#: Security: event -> category, action, outcome.
_SECURITY = {
    "1102": ("intrusion_detection", "audit_log_cleared", ""),
    "4624": ("authentication", "login", "success"),
    "4625": ("authentication", "login", "failure"),
    "4634": ("session", "session_closed", ""),
    "4647": ("session", "session_closed", ""),
    "4648": ("authentication", "login_with_credentials", ""),
    "4656": ("file", "object_access", ""),
    "4663": ("file", "object_access", ""),
    "4672": ("iam", "privileges_assigned", "success"),
    "4688": ("process", "process_started", "success"),
    "4689": ("process", "process_ended", ""),
    "4697": ("configuration", "service_installed", "success"),
    "4698": ("configuration", "task_created", "success"),
    "4699": ("configuration", "task_removed", "success"),
    "4702": ("configuration", "task_changed", "success"),
    "4719": ("configuration", "audit_policy_changed", "success"),
    "4720": ("iam", "user_added", "success"),
    "4722": ("iam", "user_unlocked", "success"),
    "4723": ("iam", "password_changed", ""),
    "4724": ("iam", "password_changed", ""),
    "4725": ("iam", "user_locked", "success"),
    "4726": ("iam", "user_removed", "success"),
    "4728": ("iam", "group_member_added", "success"),
    "4729": ("iam", "group_member_removed", "success"),
    "4732": ("iam", "group_member_added", "success"),
    "4733": ("iam", "group_member_removed", "success"),
    "4738": ("iam", "user_changed", "success"),
    "4740": ("authentication", "account_locked", "failure"),
    "4756": ("iam", "group_member_added", "success"),
    "4757": ("iam", "group_member_removed", "success"),
    "4767": ("iam", "user_unlocked", "success"),
    "4768": ("authentication", "kerberos_ticket_requested", ""),
    "4769": ("authentication", "kerberos_service_ticket_requested", ""),
    "4771": ("authentication", "kerberos_login", "failure"),
    "4776": ("authentication", "ntlm_login", ""),
    "4778": ("session", "session_opened", ""),
    "4779": ("session", "session_closed", ""),
    "4781": ("iam", "user_renamed", "success"),
    "5140": ("file", "share_access", ""),
    "5145": ("file", "share_access", ""),
    "5156": ("network", "firewall_allow", "success"),
    "5157": ("network", "firewall_deny", "failure"),
}
_SYSTEM = {
    "104": ("intrusion_detection", "event_log_cleared", ""),
    "7040": ("configuration", "service_changed", "success"),
    "7045": ("configuration", "service_installed", "success"),
}
_SYSMON = {
    "1": ("process", "process_started", "success"),
    "2": ("file", "file_time_changed", ""),
    "3": ("network", "network_connection", ""),
    "5": ("process", "process_ended", ""),
    "6": ("process", "driver_loaded", ""),
    "7": ("process", "image_loaded", ""),
    "8": ("process", "remote_thread_created", ""),
    "9": ("file", "raw_disk_read", ""),
    "10": ("process", "process_accessed", ""),
    "11": ("file", "file_created", ""),
    "12": ("configuration", "registry_changed", ""),
    "13": ("configuration", "registry_changed", ""),
    "14": ("configuration", "registry_changed", ""),
    "15": ("file", "file_stream_created", ""),
    "17": ("process", "pipe_created", ""),
    "18": ("process", "pipe_connected", ""),
    "19": ("configuration", "wmi_changed", ""),
    "20": ("configuration", "wmi_changed", ""),
    "21": ("configuration", "wmi_changed", ""),
    "22": ("network", "dns_query", ""),
    "23": ("file", "file_deleted", ""),
    "25": ("process", "process_tampered", ""),
    "26": ("file", "file_deleted", ""),
}
_MEANINGS: dict[str, dict[str, tuple[str, str, str]]] = {
    "Security": _SECURITY,
    "System": _SYSTEM,
    "Microsoft-Windows-Sysmon/Operational": _SYSMON,
}
#: Names in the event's data -> fields of text.
_TEXTS = {
    "TargetUserName": "user.name",
    "TargetDomainName": "user.domain",
    "WorkstationName": "source.domain",
    "SubjectUserName": "user.effective.name",
    "MemberName": "user.target.name",
    "CommandLine": "process.command_line",
    "NewProcessName": "process.executable",
    "ParentProcessName": "process.parent.executable",
    "Image": "process.executable",
    "ParentImage": "process.parent.executable",
    "ParentCommandLine": "process.parent.command_line",
    "CurrentDirectory": "process.working_directory",
    "TargetFilename": "file.path",
    "QueryName": "dns.question.name",
    "DestinationHostname": "destination.domain",
    "ServiceName": "service.name",
    "ShareName": "file.share.name",
    "TaskName": "task.name",
    "Protocol": "network.transport",
}
_ADDRESSES = {
    "IpAddress": "source", "SourceIp": "source", "SourceAddress": "source", "ClientAddress": "source",
    "DestinationIp": "destination", "DestAddress": "destination",
}  # fmt: skip
_PORTS = {"IpPort": "source.port", "SourcePort": "source.port", "DestinationPort": "destination.port",
          "DestPort": "destination.port"}  # fmt: skip


def _text(value: Any) -> str:
    """A value of an event as text; {"#text": 4624, "#attributes": ...} too."""
    if isinstance(value, Mapping):
        value = value.get("#text", value.get("Value"))
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _mean(fields: Fields, channel: str, number: str, data: Mapping[str, Any]) -> None:
    """Set the ECS fields that the data of an event mean."""
    meaning = _MEANINGS.get(channel, {}).get(number)
    for name, value in data.items():
        text = _text(value)
        if not text or text == "-":
            continue
        if name in _TEXTS:
            fields[_TEXTS[name]] = text
        elif name in _ADDRESSES and text not in {"LOCAL", "localhost"}:
            put_address(fields, _ADDRESSES[name], text)
        elif name in _PORTS:
            put_port(fields, _PORTS[name], text)
    if "user.name" not in fields:
        account = _text(data.get("User")) or _text(data.get("SubjectUserName"))
        domain, sign, user = account.rpartition("\\")
        if user:
            fields["user.name"] = user
            if sign:
                fields["user.domain"] = domain
    executable = fields.get("process.executable")
    if isinstance(executable, str):
        fields["process.name"] = executable.rpartition("\\")[2]
    if meaning is None:
        return
    category, action, outcome = meaning
    if number in {"4768", "4769", "4776"} and channel == "Security":
        status = _text(data.get("Status")).lower()
        outcome = "" if not status else "success" if status in {"0x0", "0"} else "failure"
        if outcome == "failure":
            action = "ntlm_login" if number == "4776" else "kerberos_login"
    fields["event.category"] = category
    fields["event.action"] = action
    if outcome:
        fields["event.outcome"] = outcome


def _put_head(fields: Fields, channel: str, number: str, provider: str, computer: str, level: str) -> None:
    for name, value in (
        ("winlog.channel", channel),
        ("event.code", number),
        ("event.provider", provider),
        ("host.name", computer),
        ("log.level", _LEVELS.get(level, "")),
    ):
        if value:
            fields[name] = value


def _read_event(document: Mapping[str, Any], fields: Fields) -> str | None:
    """{"Event": {"System": {...}, "EventData": {...}}}, as .evtx readers write it."""
    event = document["Event"]
    system = event.get("System") if isinstance(event, Mapping) else None
    if not isinstance(system, Mapping):
        return None
    channel, number = _text(system.get("Channel")), _text(system.get("EventID"))
    provider = system.get("Provider")
    if isinstance(provider, Mapping):
        provider = provider.get("#attributes", provider)
        provider = provider.get("Name", provider.get("@Name")) if isinstance(provider, Mapping) else ""
    _put_head(fields, channel, number, _text(provider), _text(system.get("Computer")), _text(system.get("Level")))
    data = event.get("EventData") or event.get("UserData")
    if isinstance(data, Mapping) and len(data) == 1 and isinstance(inner := next(iter(data.values())), Mapping):
        data = inner
    data = data if isinstance(data, Mapping) else {}
    _mean(fields, channel, number, data)
    return _summary(channel, number, data)


def _summary(channel: str, number: str, data: Mapping[str, Any]) -> str:
    shown = ((name, _text(value)) for name, value in data.items())
    pairs = " ".join(f"{name}={value}" for name, value in shown if value and name != "#attributes")
    return f"{channel or 'Windows'} {number}: {pairs}"[:8_000]


def _read_winlogbeat(document: Mapping[str, Any], fields: Fields) -> str | None:
    """{"winlog": {"channel": ..., "event_id": ..., "event_data": {...}}, ...}."""
    winlog = document["winlog"]
    if not isinstance(winlog, Mapping):
        return None
    channel, number = _text(winlog.get("channel")), _text(winlog.get("event_id"))
    data = winlog.get("event_data")
    _put_head(fields, channel, number, _text(winlog.get("provider_name")), _text(winlog.get("computer_name")), "")
    _mean(fields, channel, number, data if isinstance(data, Mapping) else {})
    message = document.get("message")
    return message if isinstance(message, str) else _summary(channel, number, data if isinstance(data, Mapping) else {})


def _read_nxlog(document: Mapping[str, Any], fields: Fields) -> str | None:
    """NXLog's flat objects: EventID, Channel, Hostname, and the event's data beside them."""
    channel, number = _text(document.get("Channel")), _text(document.get("EventID"))
    if not number:
        return None
    provider = _text(document.get("SourceName")) or _text(document.get("ProviderName"))
    computer = _text(document.get("Hostname")) or _text(document.get("Computer"))
    _put_head(fields, channel, number, provider, computer, "")
    _mean(fields, channel, number, document)
    message = document.get("Message")
    return message if isinstance(message, str) else _summary(channel, number, {})


def _open_xml(line: str, clock: Clock) -> Opened | None:
    """One <Event> element."""
    if _START(line) is None or "<!" in line:
        return None
    try:
        root = ET.fromstring(line)  # noqa: S314  (no document type: checked above)
    except ET.ParseError:
        return None
    event: dict[str, Any] = {}
    for part in root:
        name = part.tag.rpartition("}")[2]
        event[name] = _system(part) if name == "System" else _data(part)
    document = {"Event": event}
    fields: Fields = {}
    _, cut, _ = flatten(document, fields)
    message = _read_event(document, fields)
    if message is None:
        return None
    created = event["System"].get("TimeCreated")
    timestamp_us, flags = clock.any(created) if isinstance(created, str) else (None, TIME_ERROR)
    return "windows.xml", timestamp_us, flags | (FIELDS_CUT if cut else 0), "", message, fields


def _system(part: ET.Element) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for child in part:
        name = child.tag.rpartition("}")[2]
        if name == "Provider":
            found[name] = dict(child.attrib)
        elif name == "TimeCreated":
            found[name] = child.attrib.get("SystemTime", "")
        else:
            found[name] = child.text or (dict(child.attrib) if child.attrib else "")
    return found


def _data(part: ET.Element) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, child in enumerate(part):
        name = child.attrib.get("Name") or child.tag.rpartition("}")[2]
        if name == "Data":
            name = f"Data{number}"
        found[name] = {inner.tag.rpartition("}")[2]: inner.text or "" for inner in child} if len(child) else child.text
    return found


OBJECTS = (
    ObjectDecoder(
        name="windows.evtx",
        about="Windows events as .evtx readers write them, and .evtx files themselves.",
        keys=("Event",),
        read=_read_event,
        times=("Event.System.TimeCreated.#attributes.SystemTime", "Event.System.TimeCreated.SystemTime",
               "Event.System.TimeCreated"),
    ),
    ObjectDecoder(
        name="windows.winlogbeat", about="Windows events as Winlogbeat sends them.", keys=("winlog",),
        read=_read_winlogbeat,
    ),
    ObjectDecoder(
        name="windows.nxlog", about="Windows events as NXLog and rsyslog's agent write them.",
        keys=("EventID", "Channel"), read=_read_nxlog,
        times=("EventTime", "TimeCreated", "UtcTime", "EventReceivedTime"),
    ),
)  # fmt: skip
XML = LineDecoder(
    name="windows.xml", about="Windows events as XML, one on a line.", open=_open_xml, leads=("<Aaaaa", "<?aaa "),
    marks=("<System>",),
)  # fmt: skip
DECODERS = (*OBJECTS, XML)
