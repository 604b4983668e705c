"""Where outgoing requests may go: one set of rules for what is configured and for what is sent.

Before anything is sent only what can be known without asking the network is checked: the form of the URL and a literal
address in any of its spellings. outbound.py asks the same rules about every address that a name resolves to.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import unicodedata
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from threatlens.errors import ConfigError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Ports of the web. Others need a word in allowed_ports, or an address whose network was allowed by name.
WEB_PORTS = frozenset({80, 443, 8080, 8443})
_PATH_CHARACTERS = "!#$%&'()*+,/:;=?@[]~"  # what quote() leaves as it is: delimiters, and what was quoted already
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")
#: Not of the public internet, although Python's own list may not say so: translation prefixes of a network's own,
#: site-local and documentation addresses, segment routing.
_NOT_PUBLIC = tuple(
    map(ipaddress.ip_network, ("64:ff9b:1::/48", "::ffff:0:0:0/96", "fec0::/10", "3fff::/20", "5f00::/16"))
)
#: Where clouds hand out credentials of the machine, beside the link-local addresses.
_METADATA = frozenset(map(ipaddress.ip_address, ("100.100.100.200", "192.0.0.192", "fd00:ec2::254")))
_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "instance-data"})
_HOST = re.compile(r"[a-z0-9_.:-]+")
_LONGEST_NAME = 253


@dataclass(frozen=True, slots=True)
class Permissions:
    """What outgoing requests may reach beyond the public web."""

    networks: tuple[Network, ...] = ()  # private or loopback ones
    ports: frozenset[int] = frozenset()  # of public addresses, beside WEB_PORTS


#: For a server that an administrator named as his own (mail): any network and port. What is never called is not.
ANYWHERE = Permissions((ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")))


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart, each part as it goes onto the wire."""

    scheme: str  # http or https
    host: str  # lower case, ASCII; an IPv6 address without brackets
    port: int
    path: str  # with the query; ASCII

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port


def check_url(url: str, permissions: Permissions) -> str:
    """An http or https URL that may be called, as it was given. Raises ConfigError; the message never shows the URL.

    URLs of chat services are secrets themselves, so messages name the scheme and the host only.
    """
    target = take_apart(url)
    if reason := refusal(target.host, target.port, permissions):
        raise ConfigError(reason)
    return url


def take_apart(url: str) -> Target:
    """The parts of an http or https URL. Raises ConfigError; the message never shows the URL."""
    if any(character.isspace() or not character.isprintable() or character == "\\" for character in url):
        raise ConfigError("must not hold blanks, control characters or backslashes")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ConfigError("is not a URL") from error
    if parts.scheme not in {"http", "https"}:
        raise ConfigError(
            f"must begin with https:// or http://, not {parts.scheme[:20] + ':' if parts.scheme else 'this'}"
        )
    if "@" in parts.netloc:
        raise ConfigError("must not hold a user name or password")
    host = _plain_host(host)
    if not host:
        raise ConfigError("names no host")
    if port == 0:
        raise ConfigError("port 0 is none")
    path = quote(parts.path or "/", safe=_PATH_CHARACTERS)
    if parts.query:
        path += "?" + quote(parts.query, safe=_PATH_CHARACTERS)
    return Target(parts.scheme, host, port or (443 if parts.scheme == "https" else 80), path)


def _plain_host(host: str) -> str:
    """A host as resolvers see it: lower case, ASCII, no trailing dot, no IPv6 zone. Raises ConfigError."""
    name = unicodedata.normalize("NFKC", host).replace("\u3002", ".").rstrip(".").lower()
    if ":" in name:
        name = name.partition("%")[0]
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise ConfigError("names a host that cannot be") from error
    if len(name) > _LONGEST_NAME or not _HOST.fullmatch(name):
        raise ConfigError("names a host that cannot be" if name else "names no host")
    return name


def refusal(host: str, port: int, permissions: Permissions) -> str:
    """Why the host of a Target may not be called; empty: it may, as far as its name tells."""
    if host in _METADATA_NAMES:
        return f"{host} hands out credentials of this machine; it is never called"
    if host == "localhost" or host.endswith(".localhost"):
        address: Address | None = ipaddress.ip_address("127.0.0.1")
    else:
        address = literal_address(host)
    return address_refusal(address, port, permissions) if address is not None else ""


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


def address_refusal(address: Address, port: int, permissions: Permissions) -> str:
    """Why an address may not be called on this port; empty: it may."""
    for seen in (address, *_embedded(address)):
        if seen.is_link_local or seen in _METADATA:
            return f"{address} is a link-local or metadata address; it is never called"
        if seen.is_multicast or seen.is_unspecified:
            return f"{address} is not the address of one machine"
    if any(address in network for network in permissions.networks):
        return ""
    for seen in (address, *_embedded(address)):
        if not seen.is_global or any(seen in network for network in _NOT_PUBLIC):
            return f"{address} is a private address; name its network in allowed_private_networks to allow it"
    if port not in WEB_PORTS and port not in permissions.ports:
        return f"port {port} is not one of the web's; name it in allowed_ports to allow it"
    return ""


def _embedded(address: Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that an IPv6 address leads to: mapped, compatible, 6to4, Teredo, NAT64."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [each for each in found if each is not None]
