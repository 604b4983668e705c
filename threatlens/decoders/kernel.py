"""The kernel's own messages that matter to security and health; all others are recognised as the kernel's."""

from __future__ import annotations

from typing import Any

from threatlens.decoders.base import MessageDecoder, compiled
from threatlens.decoders.tables import Table, row
from threatlens.event import Fields

_UPTIME = compiled(r"\[ {0,8}[0-9]{1,12}\.[0-9]{1,9}\] ?(.*)").fullmatch
_HOST: dict[str, Any] = {"category": "host"}
_OOPS = row(r"(?P<reason>.*)", "kernel_oops", "failure", level="critical", **_HOST)

_TABLE = Table(
    {
        "BUG:": [_OOPS],
        "Oops:": [_OOPS],
        "Kernel": [row(r"(?P<reason>Kernel panic .*)", "kernel_panic", "failure", level="emergency", **_HOST)],
        "general": [
            row(r"(?P<reason>general protection fault.*)", "kernel_oops", "failure", level="critical", **_HOST)
        ],
        "Out": [
            row(
                r"Out of memory: Kill(?:ed)? process (?P<child_pid>[0-9]{1,10}) \((?P<child>[^()]*)\).*",
                "out_of_memory",
                "failure",
                level="critical",
                **_HOST,
            )
        ],
        "Memory": [
            row(
                r"Memory cgroup out of memory: Kill(?:ed)? process (?P<child_pid>[0-9]{1,10}) \((?P<child>[^()]*)\).*",
                "out_of_memory",
                "failure",
                level="error",
                **_HOST,
            )
        ],
        "device": [
            row(r"device (?P<interface>\S+) entered promiscuous mode", "promiscuous_mode_entered", **_HOST),
            row(r"device (?P<interface>\S+) left promiscuous mode", "promiscuous_mode_left", **_HOST),
        ],
        "TCP:": [
            row(
                r"TCP: (?P<reason>.*[Pp]ossible SYN flooding on port .*)",
                "syn_flood",
                "failure",
                level="warning",
                category="network",
            )
        ],
        "possible": [
            row(
                r"possible SYN flooding on port (?P<dport>[0-9]{1,5}).*",
                "syn_flood",
                "failure",
                level="warning",
                category="network",
            )
        ],
        "Initializing": [row(r"Initializing cgroup subsys \S+", "kernel_boot", **_HOST)],
        "Linux": [row(r"Linux version (?P<reason>.*)", "kernel_boot", **_HOST)],
        "usb": [
            row(r"usb [\w.-]+: (?P<reason>New USB device found.*)", "usb_connected", **_HOST),
            row(r"usb [\w.-]+: (?P<reason>USB disconnect.*)", "usb_disconnected", **_HOST),
        ],
        "": [
            row(
                r"(?P<child>[^\s\[\]]+)\[(?P<child_pid>[0-9]{1,10})\]: segfault at (?P<reason>.*)",
                "segfault",
                "failure",
                level="error",
                category="process",
            ),
            row(r"(?P<interface>\S+): (?P<reason>entered promiscuous mode)", "promiscuous_mode_entered", **_HOST),
            row(r"(?P<interface>\S+): (?P<reason>left promiscuous mode)", "promiscuous_mode_left", **_HOST),
            row(
                r"traps: (?P<child>[^\s\[\]]+)\[(?P<child_pid>[0-9]{1,10})\] (?P<reason>.*)",
                "trap",
                "failure",
                level="error",
                category="process",
            ),
        ],
    }
)


def read(message: str, fields: Fields) -> bool:
    """Read a message with or without its "[uptime]"."""
    uptime = _UPTIME(message)
    return _TABLE.read(uptime[1] if uptime is not None else message, fields)


DECODER = MessageDecoder(
    name="kernel", about="Kernel messages: oopses, out of memory, segfaults, devices.", read=read, programs=("kernel",)
)
