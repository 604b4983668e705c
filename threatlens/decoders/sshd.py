"""OpenSSH's server, versions 5 to 10, whichever of its processes writes.

A user name is whatever the client sent, blanks and "from 192.0.2.1 port 22" included. Where the address stands behind
the name, the last place counts, which only the server writes. Where client text may also follow the address (the
wishes of a "Change of username", the identity in a certificate), a line that could be read two ways gives no address.
"""

from __future__ import annotations

from typing import Any

from threatlens.decoders import pam
from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.tables import Table, joined, row

PREAUTH = r"(?: \[(?:preauth|postauth)\])?"
KIND = r"(?:(?:authenticating|invalid|illegal) )?"
#: A key behind "ssh2: ". A certificate's identity is the client's choice: blanks in it are not accepted.
KEY = r"(?:: [\w@.-]+ (?P<key>[\w:+/=]+)(?: ID \S+ \(serial [0-9]+\) CA \S+ \S+)?)?"
METHOD_TAIL = r"(?: [\w.-]+)?"
AT = r"(?P<src>\S++) port (?P<sport>[0-9]{1,5})"
MAYBE_PORT = r"(?P<src>\S++)(?: port (?P<sport>[0-9]{1,5}))?"

_LOGIN = "ssh_login"
_REFUSED = "ssh_login_refused"
_INVALID = "ssh_invalid_user"
_DISCONNECT = "ssh_disconnect"
_PROBE = "ssh_probe"
_NET: dict[str, Any] = {"category": "network"}

# A name without blanks behind a fixed tail can be read in one way only, and quickly: these rows come first.
_accepted_plain = row(rf"Accepted (?P<method>\S++) for (?P<user>\S++) from {AT} ssh2{KEY}", _LOGIN, "success")
_failed_plain = row(
    r"Failed (?P<method>\S++) for (?:invalid user )?+(?P<user>\S++) from (?P<src>\S++) port (?P<sport>[0-9]{1,5}) ssh2",
    _LOGIN,
    "failure",
)
_invalid_plain = row(r"Invalid user (?P<user>\S++) from (?P<src>\S++) port (?P<sport>[0-9]{1,5})", _INVALID, "failure")
_closed_plain = row(
    rf"Connection (?:closed|reset) by (?:(?:authenticating|invalid) user (?P<user>\S++) )?+{AT}{PREAUTH}",
    _DISCONNECT,
    **_NET,
)
_disconnected_plain = row(
    rf"Disconnected from (?:(?:(?:authenticating|invalid) )?+user (?P<user>\S++) )?+{AT}{PREAUTH}", _DISCONNECT, **_NET
)
_received_plain = row(
    r"Received disconnect from (?P<src>\S++) port (?P<sport>[0-9]{1,5}):[0-9]++: (?P<reason>(?!\S{1,200} Auth ).*)",
    _DISCONNECT,
    **_NET,
)
_pam_failure = row(
    rf"pam_unix\(sshd:auth\): {pam.FAILURE}",
    "login",
    "failure",
    also={"event.module": "pam_unix", "service.name": "sshd", "pam.type": "auth"},
)
_accepted = row(rf"Accepted (?P<method>\S+) for (?P<user>.*) from {MAYBE_PORT}(?: ssh[12]?)?{KEY}", _LOGIN, "success")
_failed = row(
    rf"Failed (?P<method>\S+) for (?:invalid user |illegal user )?(?P<user>.*) from {MAYBE_PORT}(?: ssh[12]?)?{KEY}"
    + PREAUTH,
    _LOGIN,
    "failure",
)
_failed_unclear = row(r"Failed (?P<method>\S+) for .*", _LOGIN, "failure")
_accepted_unclear = row(r"Accepted (?P<method>\S+) for .*", _LOGIN, "success")
_postponed = row(
    rf"(?:Postponed|Partial) (?P<method>\S+) for (?:invalid user )?(?P<user>.*) from {MAYBE_PORT}(?: ssh[12]?)?{KEY}"
    + PREAUTH,
    "ssh_login_postponed",
)
_invalid = row(rf"(?:Invalid|Illegal) user (?P<user>.*) from {MAYBE_PORT}", _INVALID, "failure")
_maximum = row(
    r"(?:error: )?maximum authentication attempts exceeded for (?:invalid user |illegal user )?(?P<user>.*) from "
    rf"{MAYBE_PORT}(?: ssh[12]?)?{PREAUTH}",
    "ssh_max_attempts",
    "failure",
)
_too_many = row(rf"Too many authentication failures for (?P<user>.*){PREAUTH}", "ssh_max_attempts", "failure")
_pam_error = row(
    r"(?:error: )?PAM: (?>(?P<reason>[\w ,']+?) for (?:illegal user |invalid user )?)(?P<user>.*) from (?P<src>\S+)",
    _LOGIN,
    "failure",
)
_pam_denied = row(
    rf"(?:fatal: )?Access denied for user (?P<user>.*) by PAM account configuration{PREAUTH}", _REFUSED, "failure"
)
_not_allowed = row(
    rf"User (?P<user>.*) from {MAYBE_PORT} not allowed because (?P<reason>[\w .'/-]{{1,200}})", _REFUSED, "failure"
)
_not_allowed_local = row(r"User (?P<user>.*) not allowed because (?P<reason>[\w .'/-]{1,200})", _REFUSED, "failure")
_root_refused = row(rf"ROOT LOGIN REFUSED FROM {MAYBE_PORT}{PREAUTH}", _REFUSED, "failure")
_restricted = row(r"Login restricted for (?P<user>.*)", _REFUSED, "failure")
_junos = row(
    r"(?:SSHD_LOGIN_FAILED: )?Login failed for user '(?P<user>.*)' from host '(?P<src>[^'\s]+)'", _LOGIN, "failure"
)
_refused_connect = row(r"refused connect from (?:\S+ )?\(?(?P<src>[^\s()]+)\)?", "ssh_connection_refused", "failure")
_authentication_tried = row(
    r"Authentication (?:tried|attempt) for (?P<user>.*) with (?:correct|valid) key but not from a permitted host"
    r" \(host=[^\s,]*, ip=(?P<src>[^\s,)]+)\)\.?",
    _REFUSED,
    "failure",
)
_timeout = row(
    r"(?:fatal: |error: )?Timeout before authentication for (?:connection from )?"
    rf"{MAYBE_PORT}(?: to [^\s,]+, pid = [0-9]+)?{PREAUTH}\.?",
    "ssh_timeout",
    "failure",
    **_NET,
)
_closed = row(rf"Connection (?:closed|reset) by {MAYBE_PORT}{PREAUTH}", _DISCONNECT, **_NET)
_closed_user = row(rf"Connection (?:closed|reset) by {KIND}user (?P<user>.*) {AT}{PREAUTH}", _DISCONNECT, **_NET)
_connection = row(rf"Connection from {AT} on (?P<dst>\S+) port (?P<dport>[0-9]{{1,5}}).*", "ssh_connect", **_NET)
_connection_old = row(rf"Connection from {AT}", "ssh_connect", **_NET)
_disconnected = row(rf"Disconnected from {MAYBE_PORT}{PREAUTH}", _DISCONNECT, **_NET)
_disconnected_user = row(rf"Disconnected from {KIND}user (?P<user>.*) {AT}{PREAUTH}", _DISCONNECT, **_NET)
_received = row(rf"(?:error: )?Received disconnect from {MAYBE_PORT}: ?[0-9]+: ?(?P<reason>.*)", _DISCONNECT, **_NET)
_received_old = row(r"(?:error: )?Received disconnect from (?P<src>\S+): [0-9]+: (?P<reason>.*)", _DISCONNECT, **_NET)
_auth_fail = row(
    r"(?:error: )?Received disconnect from (?P<src>[^\s:]+|\[?[0-9a-fA-F:.]+\]?)(?: port (?P<sport>[0-9]{1,5}))?: ?3: "
    rf"(?P<reason>[^\s:]{{0,200}}: Auth (?:fail|cancel)){PREAUTH}",
    _LOGIN,
    "failure",
)
_disconnecting_for = row(
    rf"Disconnecting: (?P<reason>Too many authentication failures) for (?:(?:invalid|illegal) user )?(?P<user>.*)"
    rf" from {MAYBE_PORT}(?: ssh[12])?{PREAUTH}",
    "ssh_max_attempts",
    "failure",
)
_disconnecting_name = row(
    rf"Disconnecting: (?P<reason>Too many authentication failures) for (?P<user>\S+){PREAUTH}",
    "ssh_max_attempts",
    "failure",
)
_disconnecting_many = row(
    rf"Disconnecting {KIND}user (?P<user>.*) {AT}: (?P<reason>Too many authentication failures){PREAUTH}",
    "ssh_max_attempts",
    "failure",
)
_disconnecting_change = row(
    rf"Disconnecting {KIND}user (?P<user>\S*) {AT}: "
    r"(?P<reason>Change of username or service not allowed): (?:(?! port ).)*",
    _DISCONNECT,
    "failure",
)
_disconnecting_at = row(rf"Disconnecting {AT}: (?P<reason>.*)", _DISCONNECT, **_NET)
_disconnecting = row(r"Disconnecting(?:: | )(?P<reason>.*)", _DISCONNECT, **_NET)
_no_identification = row(rf"Did not receive identification string from {MAYBE_PORT}\.?", _PROBE, **_NET)
_bad_protocol = row(rf"Bad protocol version identification '.*' from {MAYBE_PORT}", _PROBE, **_NET)
_banner = row(rf"(?:error: )?banner exchange: Connection from {AT}: (?P<reason>.*)", _PROBE, **_NET)
_identification = row(
    r"(?:error: )?(?:kex_exchange_identification|ssh_exchange_identification|kex_protocol_error): (?P<reason>.*)",
    _PROBE,
    **_NET,
)
_negotiate = row(
    rf"(?:fatal: |error: )?Unable to negotiate with {MAYBE_PORT}: (?P<reason>[\w -]+?)(?:\. Their offer: .*)?{PREAUTH}",
    "ssh_negotiation_failed",
    **_NET,
)
_dispatch = row(
    r"(?:fatal: |error: )?ssh_dispatch_run_fatal: Connection (?:from|to) "
    rf"(?:{KIND}user (?P<user>.*) )?{AT}: (?P<reason>[\w ,()'-]+?){PREAUTH}",
    "ssh_protocol_error",
    **_NET,
)
_major = row(rf"Protocol major versions differ(?: for {MAYBE_PORT})?: .*", _PROBE, **_NET)
_ident = row(rf"Could not write ident string to {MAYBE_PORT}", _PROBE, **_NET)
_reverse = row(
    r"reverse mapping checking getaddrinfo for \S+ (?:\[(?P<src>[^\]\s]+)\] )?failed(?: - POSSIBLE BREAK-IN ATTEMPT!)?",
    "ssh_reverse_mapping_failed",
    **_NET,
)
_maps = row(
    r"Address (?P<src>\S+) maps to \S+, but this does not map back to the address.*",
    "ssh_reverse_mapping_failed",
    **_NET,
)
_nasty = row(r'Nasty PTR record "[^"]*" is set up for (?P<src>\S+), ignoring', "ssh_reverse_mapping_failed", **_NET)
_dropped = row(
    r"(?:error: )?drop connection #[0-9]+ from \[(?P<src>[^\]\s]+)\]:(?P<sport>[0-9]{1,5})"
    r" on \[(?P<dst>[^\]\s]+)\]:(?P<dport>[0-9]{1,5}) (?P<reason>.*)",
    "ssh_connection_dropped",
    "failure",
    **_NET,
)
_penalty = row(
    r"srclimit_penalise: (?:ipv4|ipv6): new (?P<src>[0-9a-fA-F.:]+)/[0-9]+ "
    r"(?:active |deferred )?penalty of (?P<reason>.*)",
    "ssh_penalty",
    **_NET,
)
_throttling = row(r"(?:error: )?(?:beginning|exited) MaxStartups throttling.*", "ssh_throttling", **_NET)
_session = row(
    rf"Starting session: (?P<reason>.*) for (?P<user>\S+) from {AT} id [0-9]+", "ssh_session_started", "success"
)
_close_session = row(rf"Close session: user (?P<user>\S+) from {AT} id [0-9]+", "ssh_session_closed")
_listening = row(r"Server listening on (?P<dst>\S+) port (?P<dport>[0-9]{1,5})\.?", "ssh_listening", category="process")
_signal = row(r"Received signal (?P<signal>[0-9]+); terminating\.", "ssh_stopped", category="process")
_bad_owner = row(r"Authentication refused: bad ownership or modes for \S+ (?P<file>.*)", _REFUSED, "failure")
_input = row(rf"input_userauth_request: (?:invalid|illegal) user (?P<user>.*?){PREAUTH}", _INVALID, "failure")
_pam_repeat = row(
    r"PAM (?P<count>[0-9]{1,6}) more authentication failures?; logname=\S* uid=[0-9]* euid=[0-9]* tty=\S* ruser=.*"
    r" rhost=(?P<src>\S*)(?:\s+user=(?P<user>\S*))?\s*",
    _LOGIN,
    "failure",
)
_pam_ignoring = row(r"PAM service\(\S+\) ignoring max retries; .*", "ssh_max_attempts", "failure")
_read_failed = row(rf"(?:Read from socket failed|Write failed): (?P<reason>.*?){PREAUTH}", _DISCONNECT, **_NET)
_message_error = row(r"(?:error|fatal): (?P<reason>.*)", "ssh_error", category="process", level="error")

TABLE = Table(
    {
        "Accepted": [_accepted_plain, _accepted, _accepted_unclear],
        "Failed": [_failed_plain, _failed, _failed_unclear],
        "Invalid": [_invalid_plain, _invalid],
        "Illegal": [_invalid],
        "Postponed": [_postponed],
        "Partial": [_postponed],
        "maximum": [_maximum],
        "Too": [_too_many],
        "Access": [_pam_denied],
        "User": [_not_allowed, _not_allowed_local],
        "ROOT": [_root_refused],
        "Login": [_restricted, _junos],
        "SSHD_LOGIN_FAILED:": [_junos],
        "refused": [_refused_connect],
        "Authentication": [_authentication_tried, _bad_owner],
        "Timeout": [_timeout],
        "Connection": [_closed_plain, _closed, _closed_user, _connection, _connection_old],
        "Disconnected": [_disconnected_plain, _disconnected, _disconnected_user],
        "Received": [_auth_fail, _received_plain, _received, _received_old, _signal],
        "Disconnecting": [_disconnecting_many, _disconnecting_change, _disconnecting_at, _disconnecting],
        "Disconnecting:": [_disconnecting_for, _disconnecting_name, _disconnecting],
        "Did": [_no_identification],
        "Bad": [_bad_protocol],
        "banner": [_banner],
        "kex_exchange_identification:": [_identification],
        "ssh_exchange_identification:": [_identification],
        "kex_protocol_error:": [_identification],
        "Unable": [_negotiate],
        "ssh_dispatch_run_fatal:": [_dispatch],
        "Protocol": [_major],
        "Could": [_ident],
        "reverse": [_reverse],
        "Address": [_maps],
        "Nasty": [_nasty],
        "drop": [_dropped],
        "srclimit_penalise:": [_penalty],
        "beginning": [_throttling],
        "exited": [_throttling],
        "Starting": [_session],
        "Close": [_close_session],
        "Server": [_listening],
        "input_userauth_request:": [_input],
        "PAM": [_pam_repeat, _pam_ignoring],
        "PAM:": [_pam_error],
        "pam_unix(sshd:auth):": [_pam_failure],
        "Read": [_read_failed],
        "Write": [_read_failed],
        "error:": [
            _maximum,
            _pam_error,
            _auth_fail,
            _received,
            _received_old,
            _banner,
            _identification,
            _negotiate,
            _dispatch,
            _dropped,
            _timeout,
            _throttling,
            _message_error,
        ],
        "fatal:": [_timeout, _negotiate, _pam_denied, _dispatch, _message_error],
    }
)

_NAME = "sshd"
_PROGRAMS = ("sshd", "sshd-session", "sshd-auth", "ssh")
#: Nine of ten lines of a server on the internet. Each stands first in its place in the table.
_FREQUENT = (
    _failed_plain,
    _invalid_plain,
    _closed_plain,
    _received_plain,
    _disconnected_plain,
    _accepted_plain,
    _pam_failure,
)

DECODER = MessageDecoder(
    name=_NAME,
    about="OpenSSH server: logins, refusals, probes and disconnects.",
    read=TABLE.read,
    programs=_PROGRAMS,
    join=lambda head: joined(_NAME, head, _PROGRAMS, _FREQUENT),
)
