"""JSON and pairs of servers and guards, a row each: MongoDB, SFTPGo, ModSecurity, CrowdSec."""

from __future__ import annotations

from threatlens.decoders.product import login, product
from threatlens.decoders.tables import row

_WAF = {"event.category": "intrusion_detection", "event.kind": "alert", "event.action": "waf_alert"}
_ADDRESS = r"(?P<src>[0-9a-fA-F:.]{2,64})"

DECODERS = (
    product(
        "mongodb.json",
        "MongoDB 4.4 and later: sign-ins, connections.",
        "t s c ctx msg",
        times="t.$date",
        constants={"event.category": "database"},
        fields={
            "source": "attr.remote attr.client",
            "user.name": "attr.principalName attr.user attr.user.user",
            "database.name": "attr.authenticationDatabase attr.db attr.user.db",
            "event.code": "id",
            "event.method": "attr.mechanism",
            "event.reason": "attr.error attr.result",
            "log.logger": "c",
        },
        cases={
            "msg": {
                "authentication failed": login("failure", "database_login"),
                "failed to authenticate": login("failure", "database_login"),
                "authentication succeeded": login("success", "database_login"),
                "successfully authenticated": login("success", "database_login"),
                "connection accepted": {"event.action": "database_connect"},
                "connection ended": {"event.action": "database_disconnect"},
            },
            "s": {
                "i": {"log.level": "info"},
                "w": {"log.level": "warning"},
                "e": {"log.level": "error"},
                "f": {"log.level": "critical"},
            },
        },
    ),
    product(
        "sftpgo",
        "SFTPGo: refused sign-ins, transfers, commands.",
        "level time sender",
        when={
            "sender": [
                "connection_failed",
                "login",
                "Upload",
                "Download",
                "Rename",
                "Rmdir",
                "Mkdir",
                "Remove",
                "SSHCommand",
                "httpd",
                "SFTP",
                "FTP",
                "DAV",
            ]
        },
        fields={
            "source": "client_ip remote_addr",
            "user.name": "username",
            "network.protocol": "protocol",
            "event.method": "login_type method",
            "event.reason": "error",
            "file.path": "file_path",
            "session.id": "connection_id",
        },
        constants={"event.category": "file"},
        cases={
            "sender": {
                "connection_failed": login("failure", "ftp_login"),
                "login": login("success", "ftp_login"),
                "upload": {"event.action": "file_uploaded", "event.outcome": "success"},
                "download": {"event.action": "file_downloaded", "event.outcome": "success"},
                "remove": {"event.action": "file_removed", "event.outcome": "success"},
                "httpd": {"event.category": "web", "event.action": "http_request"},
            }
        },
    ),
    product(
        "modsecurity.audit",
        "ModSecurity 3: the audit log in JSON.",
        "transaction",
        when={"transaction.client_ip": [""], "transaction.request.method": [""]},
        times="transaction.time_stamp",
        constants={"event.category": "web", "event.action": "http_request"},
        fields={
            "source": "transaction.client_ip",
            "source.port": "transaction.client_port",
            "destination": "transaction.host_ip",
            "destination.port": "transaction.host_port",
            "http.request.method": "transaction.request.method",
            "http.version": "transaction.request.http_version",
            "url.original": "transaction.request.uri",
            "url.domain": "transaction.request.headers.Host transaction.request.headers.host",
            "user_agent.original": ("transaction.request.headers.User-Agent transaction.request.headers.user-agent"),
            "http.response.status_code": "transaction.response.http_code",
            "event.id": "transaction.unique_id transaction.id",
            "rule.name": "transaction.messages.message",
            "rule.id": "transaction.messages.details.ruleId",
        },
        cases={"transaction.messages.message": {"": _WAF}},
    ),
    product(
        "crowdsec",
        "CrowdSec's own log: attacks found, decisions.",
        "time level msg",
        only_said=True,
        constants={"event.kind": "alert"},
        said={
            "msg": [
                row(
                    r"\([\w./ -]{1,100}\) (?P<rule>[\w./-]{1,100}) by ip "
                    + _ADDRESS
                    + r"(?: \([^()]{0,40}\))? : (?P<reason>[0-9a-z.]{1,20} (?:ban|captcha)) on (?i:ip) [0-9a-fA-F:.]{2,64}",
                    "host_banned",
                    "success",
                    category="intrusion_detection",
                ),
                row(
                    r"Ip " + _ADDRESS + r" performed '(?P<rule>[\w./-]{1,100})' \((?P<count>[0-9]{1,9}) events over .*",
                    "attack_found",
                    category="intrusion_detection",
                ),
            ]
        },
    ),
    product(
        "elasticsearch.audit",
        "Elasticsearch's audit log: logins, access.",
        "type timestamp event.type event.action",
        when={"type": ["audit"]},
        constants={"event.category": "database"},
        fields={
            "source": "origin.address",
            "user.name": "user.name",
            "http.request.method": "request.method",
            "url.path": "url.path",
        },
        cases={
            "event.action": {
                "authentication_failed": login("failure", "database_login"),
                "realm_authentication_failed": login("failure", "database_login"),
                "authentication_success": login("success", "database_login"),
                "anonymous_access_denied": login("failure", "database_login"),
                "access_denied": {"event.action": "database_denied", "event.outcome": "failure"},
                "access_granted": {"event.action": "database_access", "event.outcome": "success"},
                "connection_denied": {"event.action": "connection_refused", "event.outcome": "failure"},
            }
        },
        times="timestamp",
    ),
)
