"""Apache's access log: common, combined and vhost_combined."""

from __future__ import annotations

from collections.abc import Mapping

from threatlens.decoders import clf
from threatlens.decoders.base import ADDRESSES, LineDecoder, Opened, compiled, put_port
from threatlens.decoders.times import Clock
from threatlens.event import Decoded

NAME = "apache.access"

_VHOST = compiled(r"([\w.-]+)(?::([0-9]{1,5}))? ((\S+) \S+ \S+ \[.*)").fullmatch

_HOST = compiled(r"([\w.-]+)(?::([0-9]{1,5}))?").fullmatch
_MAX_HOSTS, _MAX_HOST = 1000, 300
_plain = clf.quick(NAME)


class _Hosts(dict[str, tuple[str, str] | None]):
    """What stands before a line's first blank -> virtual host and port; None for what is none. Bounded."""

    def __missing__(self, text: str) -> tuple[str, str] | None:
        found = _HOST(text) if len(text) <= _MAX_HOST else None
        if found is None or (found[2] is None and ADDRESSES[found[1]]):
            return None
        if len(self) >= _MAX_HOSTS:
            self.clear()
        self[text] = host = found[1], found[2] or ""
        return host


_HOSTS: Mapping[str, tuple[str, str] | None] = _Hosts()


def _read_line(line: str, clock: Clock) -> Decoded | None:
    """What nearly all lines are, with a virtual host or without."""
    first, _, rest = line.partition(" ")
    host = _HOSTS[first]
    if host is None:
        return _plain(line, clock)
    decoded = _plain(rest, clock)
    if decoded is not None:
        decoded.fields["url.domain"] = host[0]
        put_port(decoded.fields, "url.port", host[1])
    return decoded


def open_line(line: str, clock: Clock) -> Opened | None:
    """An access log line; nginx's "\\x22" for a quote is refused."""
    vhost = _VHOST(line)
    if vhost is not None and vhost[2] is None and (ADDRESSES[vhost[1]] or not ADDRESSES[vhost[4]]):
        vhost = None  # a name with a blank in it, and no virtual host
    found = clf.match(vhost[3]) if vhost is not None else None
    if found is None:
        vhost = None
        found = clf.match(line)
        if found is None or (ADDRESSES[found[2]] and not ADDRESSES[found[1]]):
            return None  # an address where only Apache writes a name that nobody asks for: another column before it
    if "\\x22" in line:
        return None
    timestamp_us, flags, message, fields = clf.read(found, clock)
    if vhost is not None:
        fields["url.domain"] = vhost[1]
        put_port(fields, "url.port", vhost[2] or "")
    return NAME, timestamp_us, flags, "", message, fields


DECODER = LineDecoder(
    name=NAME,
    about="Apache access log: common, combined and vhost_combined; also lighttpd, Tomcat, Jetty, Varnish.",
    open=open_line,
    leads=("0", "a", "A", ":"),
    quick=_read_line,
)
