"""What a line says: one file per format, and SourceDecoder, which chooses among them line by line.

To add a format: write its file with a DECODER (or several that belong together, as DECODERS), list it below (where two
could read one line, the earlier wins), write tests/samples/<name>.log with at least one decoy, and run
`python -m threatlens.decoders.formats > docs/formats.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from threatlens.decoders import (
    access,
    access_json,
    accounts,
    apache_access,
    apache_error,
    app_products,
    appliances,
    applications,
    asterisk,
    auditd,
    centreon,
    cloud_products,
    containers,
    courier,
    cron,
    daemons,
    databases,
    device_logs,
    dns_caches,
    dovecot,
    dropbear,
    exim,
    exported,
    filterlog,
    fortinet,
    freeswitch,
    generic,
    haproxy,
    host_services,
    identity,
    java_logs,
    json_lines,
    kerio,
    kernel,
    keyvalue,
    logfmt,
    mail_filters,
    mail_servers,
    nagios,
    named,
    netfilter,
    network_services,
    nginx_access,
    nginx_error,
    openwebmail,
    opnsense_gui,
    oracle_ims,
    paloalto,
    pam,
    portsentry,
    postfix,
    postgresql_files,
    proftpd,
    prosody,
    pureftpd,
    python_logs,
    security_events,
    security_tools,
    sensor_products,
    server_products,
    shippers,
    signin,
    signin_json,
    softether,
    solid_pop3d,
    sshd,
    su,
    sudo,
    suhosin,
    supercomputers,
    syslog_iso,
    syslog_relayed,
    syslog_rfc3164,
    syslog_rfc5424,
    systemd,
    tine20,
    uwimap,
    vpn,
    vsftpd,
    web_daemons,
    web_logins,
    web_products,
    web_runtimes,
    webmail,
    webmin,
    windows_events,
    wuftpd,
    xrdp,
    zeek,
)
from threatlens.decoders import explaining as _explaining
from threatlens.decoders import source as _source
from threatlens.decoders.base import UNKNOWN, Decoder, LineDecoder, MessageDecoder, ObjectDecoder
from threatlens.decoders.continuations import MAX_LINES, PARTS, is_open, is_trace_part, may_continue
from threatlens.decoders.explaining import Attempt, Explanation
from threatlens.decoders.shippers import SEVERAL, records_in
from threatlens.decoders.times import is_zone
from threatlens.event import Decoded

#: JSON of one product each; where two could read one object, the earlier wins.
OBJECTS: tuple[ObjectDecoder, ...] = (
    *windows_events.OBJECTS,
    *shippers.OBJECTS,
    *web_products.DECODERS,
    *server_products.DECODERS,
    *app_products.DECODERS,
    *sensor_products.DECODERS,
    *cloud_products.DECODERS,
    *host_services.OBJECTS,
    identity.OBJECT,
    postgresql_files.OBJECT,
    access_json.DECODER,
    exported.DECODER,
    *signin_json.DECODERS,
)

#: Every member of the family. Envelopes first, then whole lines, habits last; then the programs.
DECODERS: tuple[Decoder, ...] = (
    paloalto.DECODER,
    *access.DECODERS,
    prosody.DECODER,
    syslog_rfc3164.DECODER,
    syslog_iso.DECODER,
    syslog_rfc5424.DECODER,
    *syslog_relayed.STRICT,
    *containers.RUNTIMES,
    json_lines.decoder(OBJECTS),
    *security_events.DECODERS,
    windows_events.XML,
    nginx_access.DECODER,
    apache_access.DECODER,
    nginx_error.DECODER,
    apache_error.DECODER,
    vsftpd.DECODER,
    xrdp.DECODER,
    zeek.DECODER,
    portsentry.DECODER,
    openwebmail.DECODER,
    oracle_ims.DECODER,
    softether.DECODER,
    tine20.DECODER,
    centreon.DECODER,
    kerio.DECODER,
    freeswitch.DECODER,
    *device_logs.DECODERS,
    *supercomputers.DECODERS,
    *java_logs.PRODUCTS,
    *python_logs.PRODUCTS,
    exim.DECODER,
    dovecot.DECODER,
    *mail_servers.DECODERS,
    proftpd.DECODER,
    named.DECODER,
    asterisk.DECODER,
    *applications.DECODERS,
    fortinet.DECODER,
    *appliances.LINES,
    *host_services.LINES,
    *web_runtimes.OWN,
    *(one for one in web_runtimes.LAYOUTS if one.strict),
    *webmail.DECODERS,
    postgresql_files.LINE,
    *databases.DECODERS,
    *vpn.DECODERS,
    *security_tools.DECODERS,
    *network_services.DECODERS,
    *daemons.DECODERS,
    *web_logins.DECODERS,
    auditd.DECODER,
    *identity.LINES,
    *mail_filters.DECODERS,
    *web_daemons.DECODERS,
    # Loose from here on: usual layouts, asked when no product has known its line.
    signin.DECODER,
    *(one for one in web_runtimes.LAYOUTS if not one.strict),
    *java_logs.LAYOUTS,
    *python_logs.LAYOUTS,
    *containers.HABITS,
    *syslog_relayed.HABITS,
    logfmt.decoder(OBJECTS),
    keyvalue.DECODER,
    generic.DECODER,
    sshd.DECODER,
    sudo.DECODER,
    su.DECODER,
    cron.DECODER,
    netfilter.DECODER,
    filterlog.DECODER,
    haproxy.DECODER,
    opnsense_gui.DECODER,
    *host_services.MESSAGES,
    *appliances.MESSAGES,
    kernel.DECODER,
    systemd.DECODER,
    accounts.DECODER,
    courier.DECODER,
    uwimap.DECODER,
    solid_pop3d.DECODER,
    webmin.DECODER,
    wuftpd.DECODER,
    suhosin.DECODER,
    nagios.DECODER,
    postfix.DECODER,
    pureftpd.DECODER,
    dropbear.DECODER,
    *dns_caches.DECODERS,
    pam.DECODER,
    *OBJECTS,
)

_REGISTRY = _source.Registry(DECODERS)

#: The names usable as `format:`, besides "auto".
FORMATS: frozenset[str] = frozenset(_REGISTRY.by_name)


class SourceDecoder(_source.SourceDecoder):
    """Decodes the lines of one source; remembers which formats it speaks. Not for several threads at once."""

    def __init__(
        self,
        *,
        format: str = "auto",  # noqa: A002  (the name in the configuration)
        timezone: str = "UTC",
        learned: Sequence[str] = (),
        year: int | None = None,
        registry: _source.Registry | None = None,
        learns_zone: bool = False,
    ) -> None:
        """`format` is one of FORMATS or "auto"; `registry` knows more decoders than ours.

        Raises ValueError for an unknown format or time zone."""
        super().__init__(
            registry or _REGISTRY,
            format=format,
            timezone=timezone,
            learned=learned,
            year=year,
            learns_zone=learns_zone,
        )


def explain(line: str, read_at_s: float, taken: str, registry: _source.Registry | None = None) -> Explanation:
    """Which decoders a line met, and why the format `taken` has it."""
    return _explaining.explain(registry or _REGISTRY, line, read_at_s, taken)


def rereader(registry: _source.Registry | None = None) -> Callable[[str, str], Decoded]:
    """(raw line, format) -> what it says, for many stored lines; not for several threads. The times are not read."""
    return _source.Rereader(registry or _REGISTRY).read


def decode_stored(raw: str, format: str, registry: _source.Registry | None = None) -> Decoded:  # noqa: A002
    """Read the fields of a stored line again. The time is not read: the event has it already."""
    return rereader(registry)(raw, format)._replace(timestamp_us=None)


__all__ = [
    "DECODERS",
    "FORMATS",
    "MAX_LINES",
    "PARTS",
    "SEVERAL",
    "UNKNOWN",
    "Attempt",
    "Decoder",
    "Explanation",
    "LineDecoder",
    "MessageDecoder",
    "ObjectDecoder",
    "SourceDecoder",
    "decode_stored",
    "explain",
    "is_open",
    "is_trace_part",
    "is_zone",
    "may_continue",
    "records_in",
    "rereader",
]
