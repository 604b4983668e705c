"""How bad is one decoded line, from 1 (routine) to 10, by what its decoder said it is.

Deterministic and local. No single line reaches 8: that takes rules that see more than one line. The answer depends on
format, action, outcome, level and HTTP status only, and is remembered by them.
"""

from __future__ import annotations

from threatlens.event import Decoded, FieldValue

#: What event.category may be: ECS words, and what fits none.
CATEGORIES = (
    "authentication",
    "configuration",
    "database",
    "email",
    "file",
    "host",
    "iam",
    "intrusion_detection",
    "malware",
    "network",
    "package",
    "process",
    "session",
    "web",
    "other",
)
_CATEGORY_SET = frozenset(CATEGORIES)
HIGHEST = 7  # without detection rules

_LEVELS = {
    "trace": 1, "debug": 1, "info": 1, "notice": 2, "warning": 3, "error": 4, "critical": 5, "alert": 6, "emergency": 6,
}  # fmt: skip
#: (action, outcome) -> severity; "" stands for any outcome.
_ACTIONS = {
    ("ssh_login", "success"): 2,
    ("ssh_login", "failure"): 4,
    ("ssh_invalid_user", "failure"): 4,
    ("ssh_login_refused", "failure"): 5,
    ("ssh_max_attempts", "failure"): 5,
    ("ssh_probe", ""): 3,
    ("ssh_negotiation_failed", ""): 3,
    ("ssh_protocol_error", ""): 3,
    ("ssh_reverse_mapping_failed", ""): 3,
    ("ssh_connection_refused", "failure"): 3,
    ("ssh_connection_dropped", "failure"): 3,
    ("ssh_timeout", "failure"): 3,
    ("ssh_disconnect", ""): 2,
    ("login", "success"): 2,
    ("login", "failure"): 4,
    ("login_refused", "failure"): 5,
    ("account_locked", "failure"): 5,
    ("su_login", "success"): 3,
    ("su_login", "failure"): 5,
    ("sudo_root", "success"): 3,
    ("sudo_command", "success"): 2,
    ("sudo_login", "failure"): 5,
    ("sudo_denied", "failure"): 5,
    ("cron_denied", "failure"): 4,
    ("crontab_changed", ""): 3,
    ("user_added", "success"): 5,
    ("user_removed", "success"): 4,
    ("user_changed", "success"): 4,
    ("user_locked", ""): 3,
    ("user_unlocked", ""): 4,
    ("group_added", "success"): 3,
    ("group_removed", "success"): 3,
    ("group_member_added", "success"): 5,
    ("group_member_removed", "success"): 3,
    ("password_changed", "success"): 4,
    ("mail_login", "success"): 2,
    ("mail_login", "failure"): 4,
    ("mail_rejected", "failure"): 2,
    ("mail_relay_denied", "failure"): 3,
    ("mail_refused", "failure"): 3,
    ("mail_connect", ""): 1,
    ("mail_disconnect", ""): 1,
    ("mail_sent", "failure"): 2,
    ("mail_probe", ""): 3,
    ("mail_blocklisted", ""): 3,
    ("mail_protocol_error", ""): 3,
    ("mail_too_many_errors", ""): 3,
    ("mail_rate_limited", ""): 3,
    ("mail_error", "failure"): 4,
    ("database_login", "success"): 2,
    ("database_login", "failure"): 4,
    ("database_error", "failure"): 3,
    ("database_attack", "failure"): 5,
    ("ldap_login", "failure"): 4,
    ("proxy_login", "failure"): 4,
    ("proxy_denied", "failure"): 3,
    ("vpn_connect", ""): 1,
    ("host_banned", ""): 4,
    ("host_unbanned", ""): 2,
    ("attack_found", ""): 3,
    ("tls_handshake", "failure"): 2,
    ("dns_rate_limited", "failure"): 3,
    ("kerberos_login", "failure"): 4,
    ("smb_login", "failure"): 4,
    ("polkit_login", "failure"): 5,
    ("selinux_denied", "failure"): 4,
    ("apparmor_denied", "failure"): 4,
    ("seccomp_violation", ""): 5,
    ("audit_configuration_changed", ""): 5,
    ("audit_stopped", ""): 5,
    ("selinux_mode_changed", ""): 6,
    ("firewall_changed", ""): 3,
    ("role_changed", ""): 4,
    ("process_crashed", ""): 4,
    ("malware_found", "failure"): 7,
    ("dns_rebind_attack", "failure"): 5,
    ("dns_denied", "failure"): 3,
    ("dns_transfer", "failure"): 4,
    ("dns_update", "failure"): 4,
    ("dns_query", ""): 1,
    ("spam_detected", ""): 3,
    ("ftp_login", "success"): 2,
    ("ftp_login", "failure"): 4,
    ("ftp_refused", "failure"): 3,
    ("sip_login", "failure"): 4,
    ("sip_challenge", "failure"): 2,
    ("sip_denied", "failure"): 3,
    ("vpn_login", "success"): 2,
    ("vpn_login", "failure"): 4,
    ("host_blocked", ""): 4,
    ("port_scan", ""): 4,
    ("request_blocked", "failure"): 4,
    ("connection_refused", "failure"): 3,
    ("http_login", "failure"): 4,
    ("http_denied", "failure"): 3,
    ("http_rate_limited", ""): 3,
    ("http_file_error", "failure"): 2,
    ("http_client_error", "failure"): 2,
    ("http_upstream_error", "failure"): 4,
    ("mfa_login", "failure"): 4,
    ("brute_force_detected", "failure"): 5,
    ("address_banned", "success"): 3,
    ("address_list_changed", ""): 3,
    ("address_warned", ""): 3,
    ("ids_alert", ""): 5,
    ("waf_alert", ""): 5,
    ("honeypot_login", ""): 4,
    ("honeypot_command", ""): 5,
    ("honeypot_connect", ""): 3,
    ("honeypot_activity", ""): 3,
    ("firewall_deny", "failure"): 2,
    ("firewall_allow", "success"): 1,
    ("kernel_oops", "failure"): 5,
    ("kernel_panic", "failure"): 7,
    ("out_of_memory", "failure"): 5,
    ("segfault", "failure"): 4,
    ("trap", "failure"): 4,
    ("syn_flood", "failure"): 5,
    ("promiscuous_mode_entered", ""): 5,
    ("usb_connected", ""): 3,
    ("service_failed", "failure"): 4,
    ("service_exited", "failure"): 3,
}

_Key = tuple[str, FieldValue | None, FieldValue | None, FieldValue | None, FieldValue | None]
_MAX_KNOWN = 10_000


class _Severities(dict[_Key, int]):
    """Remembers what was worked out; forgets all when there is too much (a log can invent words)."""

    def __missing__(self, key: _Key) -> int:
        if len(self) >= _MAX_KNOWN:
            self.clear()
        severity = self[key] = _work_out(*key)
        return severity


_KNOWN = _Severities()


def severity(decoded: Decoded) -> int:
    """1 (routine) to 7."""
    get = decoded[3].get
    key = (decoded[0], get("event.action"), get("event.outcome"), get("log.level"), get("http.response.status_code"))
    try:
        return _KNOWN[key]
    except TypeError:  # a list, from a JSON document
        return _work_out(*key)


def _work_out(
    _format: str,
    action: FieldValue | None,
    outcome: FieldValue | None,
    level: FieldValue | None,
    status: FieldValue | None,
) -> int:
    by_level = _LEVELS.get(level, 1) if isinstance(level, str) else 1
    by_action = 0
    if isinstance(action, str):
        ended = outcome if isinstance(outcome, str) else ""
        by_action = (
            _ACTIONS.get((action, ended))
            or _ACTIONS.get((action, ""))
            or (_of_failure(action) if ended == "failure" else 0)
        )
    elif outcome == "failure":
        by_action = 3
    return min(HIGHEST, max(1, by_level, by_action, _of_status(status)))


def _of_failure(action: str) -> int:
    """Of an action that is not in the table: what ends in "login" is somebody who was not let in."""
    return 4 if action.endswith("login") else 2


def _of_status(status: FieldValue | None) -> int:
    if not isinstance(status, int):
        return 1
    if status >= 500:
        return 4 if status == 500 else 3
    if status in (401, 403, 407, 429):
        return 3
    return 2 if status >= 400 else 1


def category(decoded: Decoded) -> str:
    """One of CATEGORIES."""
    word = decoded[3].get("event.category")
    if isinstance(word, list) and word:
        word = word[0]
    return word if isinstance(word, str) and word in _CATEGORY_SET else "other"
