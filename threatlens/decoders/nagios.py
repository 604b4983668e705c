"""Nagios' agents (nrpe, nsca): refused hosts."""

from __future__ import annotations

from typing import Any

from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.tables import Table, row

_NET: dict[str, Any] = {"category": "network"}

_TABLE = Table(
    {
        "Host": [row(r"Host (?P<src>\S+) is not allowed to talk to us!", "connection_refused", "failure", **_NET)],
        "Connection": [row(r"Connection from (?P<src>\S+) port (?P<sport>[0-9]{1,5})", "connection_accepted", **_NET)],
        "Error:": [row(r"Error: (?P<error>.*)", "nagios_error", "failure", **_NET)],
        "": [row(r"(?:refused connect|Connection refused) from (?P<src>\S+)", "connection_refused", "failure", **_NET)],
    }
)

DECODER = MessageDecoder(
    name="nagios", about="Nagios agents (NRPE, NSCA): refused hosts.", read=_TABLE.read, programs=("nrpe", "nsca")
)
