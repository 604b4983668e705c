"""Addresses, networks, domains and hashes that are known to be bad, looked up in every event.

An entry is what it looks like: an address (with a port or not), a network, a hash (32, 40 or 64 hexadecimal digits),
a URL or a line of a hosts file, of which the host counts, otherwise a domain, which stands for its subdomains too.
Whole private networks, which some lists hold as "bogons", are left out: they are where we live. Looking up takes the
same time however long the lists are.
"""

from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from threatlens.event import LEVEL_SEVERITIES, Decoded, Fields, RuleMatch

LEVEL = "high"
RULE_ID = "threatlens-list-"  # followed by the name of the list
_MAX_ADDRESSES = 100_000
_HASH = re.compile(r"[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}")
_DOMAIN = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9-]{2,63}")
_IN_HASHES = re.compile(r"(?:^|[=,\s])([0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64})(?=$|[,\s])")
_PORT = re.compile(r"([0-9.]+|\[[0-9a-f:]+\]):[0-9]{1,5}")
_HOSTS_FILE = ("0.0.0.0", "127.0.0.1", "::")  # noqa: S104 - what such files write before a domain
_TOKEN = re.compile(r"[0-9a-z_][0-9a-z_.:-]{2,}|::[0-9a-f][0-9a-f:.]*")
_PRIVATE = tuple(
    map(
        ipaddress.ip_network,
        ("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16",
         "224.0.0.0/4", "240.0.0.0/4", "fc00::/7", "fe80::/10", "ff00::/8"),
    )
)  # fmt: skip
#: Networks larger than these are taken for a mistake.
_SHORTEST = {4: 8, 6: 16}
_ADDRESSES = ("source.ip", "destination.ip", "client.ip", "server.ip", "source.address", "destination.address")
_DOMAINS = ("dns.question.name", "url.domain", "destination.domain", "source.domain", "server.domain")
_URLS = ("url.original", "url.full")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Hit:
    """A value of an event that stands in a list."""

    name: str  # of the list
    entry: str  # as it stands there
    field: str
    value: str


class ThreatLists:
    """The lists, ready to be looked into. Not for several threads at once."""

    def __init__(self, lists: Mapping[str, Sequence[str]]) -> None:
        """`lists`: entries by the name of their list. Entries that are none of those kinds are counted in `ignored`."""
        self.ignored = 0
        self.entries = 0
        self._words: dict[str, list[tuple[str, str]]] = defaultdict(list)  # address, domain, hash -> (list, entry)
        #: (version, length of prefix) -> network -> (list, entry)
        self._networks: dict[tuple[int, int], dict[int, list[tuple[str, str]]]] = defaultdict(dict)
        self._seen: dict[str, tuple[tuple[str, str], ...]] = {}
        for name, entries in lists.items():
            for entry in entries:
                self._add(name, entry)

    def _add(self, name: str, entry: str) -> None:
        self.entries += 1
        word = _word(entry)
        try:
            network = ipaddress.ip_network(word, strict=False)
        except ValueError:
            bare = word.removeprefix("*.")
            if _HASH.fullmatch(word) or _DOMAIN.fullmatch(bare):
                self._words[bare].append((name, entry))
            else:
                self.ignored += 1
            return
        if network.prefixlen == network.max_prefixlen:
            self._words[str(network.network_address)].append((name, entry))
        elif network.prefixlen < _SHORTEST[network.version] or _is_private(network):
            self.ignored += 1
        else:
            of_length = self._networks[network.version, network.prefixlen]
            of_length.setdefault(int(network.network_address), []).append((name, entry))

    def hits(self, fields: Fields) -> Iterator[Hit]:
        """What of an event stands in a list."""
        for field in _ADDRESSES:
            value = fields.get(field)
            if isinstance(value, str):
                for name, entry in self._of_address(value):
                    yield Hit(name, entry, field, value)
        for field in _DOMAINS:
            value = fields.get(field)
            if isinstance(value, str):
                yield from self._of_domain(field, value, value)
        for field in _URLS:
            value = fields.get(field)
            if isinstance(value, str) and "://" in value:
                try:
                    host = urlsplit(value).hostname
                except ValueError:
                    continue
                if host:
                    yield from self._of_domain(field, value, host)
        for field, value in fields.items():
            if "hash" in field.lower() and isinstance(value, str):
                for digest in _IN_HASHES.findall(value.lower()):
                    for name, entry in self._words.get(digest, ()):
                        yield Hit(name, entry, field, digest)

    def may_hold(self, line: str, address: str | None = None) -> bool:
        """Whether a line, or the address that its decoder found, may be a hit: no hit is missed where its text stands
        in the line; tells in a fraction of the time that decoding takes."""
        if address is not None and self._of_address(address):
            return True
        words = self._words
        for token in _TOKEN.findall(line.lower()):
            if token in words:
                return True
            bare = token.strip(".:")
            if bare[:1].isdigit() or ":" in bare:
                host = bare.partition(":")[0] if bare.count(":") == 1 else bare
                if self._of_address(host):
                    return True
            if "." in bare:
                labels = bare.partition(":")[0].split(".")[-10:]
                if any(".".join(labels[start:]) in words for start in range(len(labels) - 1)):
                    return True
        return False

    def _of_address(self, text: str) -> tuple[tuple[str, str], ...]:
        known = self._seen.get(text)
        if known is None:
            if len(self._seen) >= _MAX_ADDRESSES:
                self._seen.clear()
            known = self._seen[text] = self._look_up(text)
        return known

    def _look_up(self, text: str) -> tuple[tuple[str, str], ...]:
        try:
            address: _Address = ipaddress.ip_address(text)
        except ValueError:
            return ()
        found = list(self._words.get(str(address), ()))
        number, bits = int(address), address.max_prefixlen
        for (version, length), networks in self._networks.items():
            if version == address.version:
                found.extend(networks.get(number >> (bits - length) << (bits - length), ()))
        return tuple(found)

    def _of_domain(self, field: str, value: str, domain: str) -> Iterator[Hit]:
        labels = domain.lower().rstrip(".").split(".")[-10:]
        for start in range(len(labels) - 1):
            for name, entry in self._words.get(".".join(labels[start:]), ()):
                yield Hit(name, entry, field, value)

    def matches(self, events: Sequence[tuple[Decoded, int]]) -> list[RuleMatch]:
        """One match per list and entry that is met in a batch, with how often it is."""
        found: dict[tuple[str, str], RuleMatch] = {}
        for position, (decoded, timestamp_us) in enumerate(events):
            for hit in self.hits(decoded.fields):
                known = found.get((hit.name, hit.entry))
                if known is None:
                    found[hit.name, hit.entry] = _match(hit, decoded.fields, timestamp_us, position)
                elif known.positions[-1] != position:
                    found[hit.name, hit.entry] = replace(
                        known,
                        count=known.count + 1,
                        first_us=min(known.first_us, timestamp_us),
                        timestamp_us=max(known.timestamp_us, timestamp_us),
                        positions=(*known.positions, position),
                    )
        return list(found.values())


def _is_private(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    """Whether all of a network is of those that nobody on the internet has."""
    first, last = network.network_address, network.broadcast_address
    return any(own.version == network.version and first in own and last in own for own in _PRIVATE)


def _word(entry: str) -> str:
    """What of an entry is looked for: an address, a network, a domain or a hash."""
    word = entry.strip().lower()
    first, _, rest = word.partition(" ")
    if rest and first in _HOSTS_FILE:
        word = rest.split()[0] if rest.split() else ""
    if "://" in word:
        try:
            return urlsplit(word).hostname or ""
        except ValueError:
            return ""
    with_port = _PORT.fullmatch(word)
    return (with_port[1].strip("[]") if with_port else word).rstrip(".")


def _match(hit: Hit, fields: Fields, timestamp_us: int, position: int) -> RuleMatch:
    def text(name: str) -> str | None:
        value = fields.get(name)
        return value if isinstance(value, str) else None

    source = hit.value if hit.field == "source.ip" else text("source.ip")
    return RuleMatch(
        RULE_ID + hit.name, f"{hit.value} is in the list {hit.name}", LEVEL, LEVEL_SEVERITIES[LEVEL], "rule",
        timestamp_us, timestamp_us, 1, ((hit.field, hit.value),), source, text("user.name"), text("host.name"), (),
        (position,),
    )  # fmt: skip
