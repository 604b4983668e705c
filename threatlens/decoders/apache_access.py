"""Apache's access log: common, combined and vhost_combined."""

from __future__ import annotations

from threatlens.decoders import clf
from threatlens.decoders.base import ADDRESSES, LineDecoder, Opened, compiled, put_port
from threatlens.decoders.times import Clock

NAME = "apache.access"

_VHOST = compiled(r"([\w.-]+)(?::([0-9]{1,5}))? ((\S+) \S+ \S+ \[.*)").fullmatch


def open_line(line: str, clock: Clock) -> Opened | None:
    """An access log line; nginx's "\\x22" for a quote is refused."""
    vhost = _VHOST(line)
    if vhost is not None and vhost[2] is None and (ADDRESSES[vhost[1]] or not ADDRESSES[vhost[4]]):
        vhost = None  # a name with a blank in it, and no virtual host
    found = clf.LINE(vhost[3]) if vhost is not None else None
    if found is None:
        vhost = None
        found = clf.LINE(line)
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
)
