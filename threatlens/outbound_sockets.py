"""Where every socket to another machine is opened: only to an address that was checked.

A name is resolved once, every address it has must be allowed, and the connection goes to one of those that were
checked: a name that leads elsewhere the next time it is asked gains nothing.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Callable, Sequence

from threatlens.errors import OutboundError
from threatlens.outbound_urls import Address, Permissions, address_refusal

#: The addresses of a host, for a port. Raises OSError.
Resolver = Callable[[str, int], Sequence[str]]


def open_socket(
    host: str, port: int, permissions: Permissions, resolve: Resolver, until: float, clock: Callable[[], float]
) -> socket.socket:
    """A connection to the first address of the host that answers, if all its addresses may be called.

    Each address gets an equal share of the time that is left. Raises OutboundError, `permanent` where an address is
    refused, and OSError where none answers.
    """
    try:
        found = resolve(host, port)
    except (OSError, UnicodeError) as error:
        msg = f"{host} has no address: {getattr(error, 'strerror', None) or 'it is not a name'}"
        raise OutboundError(msg) from error
    addresses = [_address(each) for each in dict.fromkeys(found)]
    if not addresses:
        msg = f"{host} has no address"
        raise OutboundError(msg)
    for address in addresses:
        if reason := address_refusal(address, port, permissions):
            msg = f"{host} leads to a refused address: {reason}" if str(address) != host else reason
            raise OutboundError(msg, permanent=True)
    for others in range(len(addresses) - 1, 0, -1):
        with contextlib.suppress(OSError):
            return _connected(addresses[-1 - others], port, left(until, clock) / (others + 1))
    return _connected(addresses[-1], port, left(until, clock))


def _connected(address: Address, port: int, timeout_s: float) -> socket.socket:
    connection = socket.create_connection((str(address), port), timeout_s)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def system_addresses(host: str, port: int) -> list[str]:
    """The addresses that the system's resolver knows for a host. Raises OSError."""
    return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _address(text: str) -> Address:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError as error:
        msg = "the resolver's answer is no address"
        raise OutboundError(msg) from error


def left(until: float, clock: Callable[[], float]) -> float:
    """Seconds until then; OutboundError if there are none."""
    seconds = until - clock()
    if seconds <= 0:
        msg = "no whole answer in time"
        raise OutboundError(msg)
    return seconds
