"""Where outgoing requests may be configured to go.

Only what can be known without asking the network is checked: the form of the URL and a literal address in any of its
spellings. A host name is checked again where it is resolved, when something is sent.
"""

from __future__ import annotations

import ipaddress
import socket
import unicodedata
from collections.abc import Sequence
from urllib.parse import urlsplit

from threatlens.errors import ConfigError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")
#: Where clouds hand out credentials of the machine, beside the link-local addresses.
_METADATA = frozenset(map(ipaddress.ip_address, ("100.100.100.200", "192.0.0.192", "fd00:ec2::254")))
_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "instance-data"})


def check_url(url: str, allowed_networks: Sequence[Network]) -> str:
    """An http or https URL that may be called, as it was given. Raises ConfigError; the message never shows the URL.

    URLs of chat services are secrets themselves, so messages name the scheme and the host only.
    """
    if any(character.isspace() or not character.isprintable() or character == "\\" for character in url):
        raise ConfigError("must not hold blanks, control characters or backslashes")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError("is not a URL") from error
    if parts.scheme not in {"http", "https"}:
        raise ConfigError(
            f"must begin with https:// or http://, not {parts.scheme[:20] + ':' if parts.scheme else 'this'}"
        )
    if "@" in parts.netloc:
        raise ConfigError("must not hold a user name or password")
    if not host:
        raise ConfigError("names no host")
    if reason := refusal(host, allowed_networks):
        raise ConfigError(reason)
    return url


def refusal(host: str, allowed_networks: Sequence[Network]) -> str:
    """Why a host of a URL may not be called; empty: it may, as far as its name tells."""
    name = unicodedata.normalize("NFKC", host).replace("\u3002", ".").rstrip(".").lower()
    if name in _METADATA_NAMES:
        return f"{name} hands out credentials of this machine; it is never called"
    if name == "localhost" or name.endswith(".localhost"):
        address: Address | None = ipaddress.ip_address("127.0.0.1")
    else:
        address = literal_address(name)
    return address_refusal(address, allowed_networks) if address is not None else ""


def literal_address(host: str) -> Address | None:
    """The address that a host part is, in any spelling that resolvers take (decimal, octal, hex, short); else None."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeEncodeError):
        return None


def address_refusal(address: Address, allowed_networks: Sequence[Network]) -> str:
    """Why an address may not be called; empty: it may."""
    for seen in (address, *_embedded(address)):
        if seen.is_link_local or seen in _METADATA:
            return f"{address} is a link-local or metadata address; it is never called"
        if seen.is_multicast or seen.is_unspecified:
            return f"{address} is not the address of one machine"
    if any(address in network for network in allowed_networks):
        return ""
    for seen in (address, *_embedded(address)):
        if not seen.is_global:
            return f"{address} is a private address; name its network in allowed_private_networks to allow it"
    return ""


def _embedded(address: Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that an IPv6 address leads to: mapped, compatible, 6to4, Teredo, NAT64."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [each for each in found if each is not None]
