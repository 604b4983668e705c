"""JSON that applications write about sign-ins, a row each; where they write pairs (logfmt), the same rows read them."""

from __future__ import annotations

from threatlens.decoders.application import IP
from threatlens.decoders.product import login, product
from threatlens.decoders.tables import row

_FAILED = login("failure")
_ACCEPTED = login("success")
_WEB = {
    "event.category": "web",
    "event.action": "http_denied",
    "event.outcome": "failure",
}

#: What Keycloak writes in front of the address; the client may choose its own name.
_WHO = r'(?:(?:realmId|realmName|clientId|userId|sessionId)=(?:"[^"]*"|[^",]*), ){1,5}'

DECODERS = (
    product(
        "zitadel",
        "ZITADEL: refused sign-ins.",
        "caller msg",
        holds={"caller": "zitadel/"},
        times="time",
        fields={"source": "remote_addr client_ip", "user.name": "login_name username", "error.message": "error err"},
        said={
            "error": [
                row(
                    r"ID=[\w-]{1,60} Message=(?P<reason>Password is invalid|Errors\.User\.(?:Password\.Invalid|NotFound|Locked)"
                    r"|User could not be found|User is locked).*",
                    "login",
                    "failure",
                )
            ]
        },
    ),
    product(
        "authentik",
        "authentik: sign-ins.",
        "event logger",
        when={"logger": ["authentik."]},
        fields={
            "source": "client_ip remote",
            "user.name": "context.username username identifier user.username user",
            "url.domain": "host domain_url",
            "http.request.method": "method",
            "url.original": "url",
        },
        cases={
            "action": {
                "login_failed": _FAILED,
                "invalid_identifier": _FAILED,
                "login": _ACCEPTED,
                "logout": {"event.category": "session", "event.action": "logout"},
                "suspicious_request": {
                    "event.category": "web",
                    "event.action": "http_denied",
                    "event.outcome": "failure",
                },
                "password_set": {
                    "event.category": "iam",
                    "event.action": "password_changed",
                    "event.outcome": "success",
                },
            },
            "event": {"invalid_login": _FAILED},
        },
    ),
    product(
        "nextcloud",
        "Nextcloud and ownCloud: sign-ins, brute force, trusted domains.",
        "reqId remoteAddr message",
        fields={
            "source": "remoteAddr",
            "user.name": "user",
            "http.request.method": "method",
            "url.original": "url",
            "user_agent.original": "userAgent",
        },
        constants={"event.category": "web"},
        said={
            "message": [
                row(
                    r"Login failed: '?(?>(?P<user>(?:.{0,1000}[^'])?)'? \(Remote IP: '?)" + IP + r"'?(?:, [^()]*)?\)",
                    "login",
                    "failure",
                ),
                row(r"Login failed: (?P<user>.*)", "login", "failure"),
                row(
                    r"Bruteforce attempt from (?:\\?\")?" + IP + r"(?:\\?\")? detected for action .*",
                    "brute_force_detected",
                    "failure",
                    category="intrusion_detection",
                ),
                row(r"Trusted domain error\. .*", "http_denied", "failure", category="web"),
                row(r"(?:Two-factor|two-factor) .*(?:failed|wrong).*", "login", "failure"),
            ]
        },
    ),
    product(
        "grafana",
        "Grafana: sign-ins and requests.",
        "logger msg",
        when={"logger": ["context", "http.server", "authn", "auth", "user"]},
        fields={
            "source": "remote_addr",
            "user.name": "uname User user userLogin",
            "http.request.method": "method",
            "url.path": "path",
            "http.response.status_code": "status",
            "http.request.referrer": "referer",
        },
        only_said=True,
        said={
            "msg": [
                row(
                    r"(?P<reason>Invalid username or password|[Uu]nauthorized|Failed to authenticate request|Failed to look up user.*)",
                    "login",
                    "failure",
                ),
                row(r"Successful [Ll]ogin", "login", "success"),
                row(r"Request Completed", "http_request", category="web"),
            ]
        },
        cases={"status": {"401": login("failure", "http_login"), "403": _WEB}},
        times="t",
    ),
    product(
        "authelia",
        "Authelia: first and second factors.",
        "level msg remote_ip",
        only_said=True,
        fields={"source": "remote_ip", "http.request.method": "method", "url.path": "path"},
        said={
            "msg": [
                row(
                    r"Unsuccessful (?P<method>\w{1,20}) authentication attempt by user '(?P<user>.*)'.*",
                    "login",
                    "failure",
                ),
                row(
                    r"Successful (?P<method>\w{1,20}) authentication attempt made by user '(?P<user>.*)'.*",
                    "login",
                    "success",
                ),
                row(r"(?>.*?user ')(?>(?P<user>.*)' (?P<reason>is banned until)).*", "login_refused", "failure"),
                row(
                    r".*[Cc]redentials (?P<reason>is wrong|are wrong|invalid).*user '?(?P<user>[^']*)'?.*",
                    "login",
                    "failure",
                ),
                row(
                    r"(?P<reason>Access to .* is (?:not authorized|forbidden) .*)",
                    "http_denied",
                    "failure",
                    category="web",
                ),
            ]
        },
        times="time",
    ),
    product(
        "miniflux",
        "Miniflux: failed sign-ins.",
        "msg client_ip username",
        only_said=True,
        times="time",
        fields={"source": "client_ip", "user.name": "username", "user_agent.original": "user_agent"},
        said={
            "msg": [
                row(
                    r"(?P<reason>Incorrect username or password|.*(?:authentication failed|[Ii]nvalid credentials).*)",
                    "login",
                    "failure",
                ),
                row(r"User authenticated successfully.*", "login", "success"),
            ]
        },
    ),
    product(
        "navidrome",
        "Navidrome: failed sign-ins.",
        "level msg",
        only_said=True,
        times="time",
        fields={"source": "remoteAddr ip remoteIP", "user.name": "username user userName"},
        said={
            "msg": [
                row(r"(?P<reason>Unsuccessful login)", "login", "failure"),
                row(r"API: (?P<reason>Invalid login)", "login", "failure"),
            ]
        },
    ),
    product(
        "gitlab",
        "GitLab: sign-ins and requests (application_json, production_json, api_json, auth_json).",
        "severity time",
        when={"severity": ["INFO", "WARN", "ERROR"], "time": ["20"]},
        only_said=True,
        fields={
            "source": "remote_ip ip meta.remote_ip",
            "user.name": "username meta.user",
            "url.path": "path",
            "http.request.method": "method request_method",
            "http.response.status_code": "status",
        },
        said={
            "message": [
                row(r"Failed Login: username=(?P<user>.*) ip=" + IP, "login", "failure"),
                row(
                    r"Successful Login: username=(?P<user>.*) ip=" + IP + r" method=(?P<method>\S{1,40}) admin=.*",
                    "login",
                    "success",
                ),
                row(r"Rack_Attack", "http_rate_limited", "failure", category="web"),
            ],
            "controller": [row(r"[\w:]{1,100}", "http_request", category="web")],
        },
    ),
    product(
        "keycloak.json",
        "Keycloak's events in JSON.",
        "loggerName message",
        when={"loggerName": ["org.keycloak.events"]},
        only_said=True,
        times="timestamp",
        said={
            "message": [
                row(
                    r'type="?\w{1,40}_ERROR"?, '
                    + _WHO
                    + r'ipAddress="?'
                    + IP
                    + r'"?, error="?(?P<reason>[\w ]{1,80})"?(?:, .*?username="?(?P<user>[^",]*)"?.*|.*)',
                    "login",
                    "failure",
                ),
                row(
                    r'type="?LOGIN"?, ' + _WHO + r'ipAddress="?' + IP + r'"?.*?(?:username="?(?P<user>[^",]*)"?.*)?',
                    "login",
                    "success",
                ),
            ]
        },
    ),
    product(
        "audiobookshelf",
        "Audiobookshelf: failed sign-ins.",
        "timestamp message levelName",
        only_said=True,
        said={
            "message": [
                row(
                    r'\[Auth\] Failed login attempt for (?:username|user) "?(?P<user>.*?)"? from ip "?'
                    + IP
                    + r'"?(?: \((?P<reason>[^()]*)\))?',
                    "login",
                    "failure",
                ),
            ]
        },
    ),
    product(
        "vault",
        "HashiCorp Vault and OpenBao audit log.",
        "type request",
        when={"request.operation": ["", "update", "read"], "type": ["request", "response"]},
        constants={"event.category": "iam", "event.action": "vault_request"},
        fields={
            "source": "request.remote_address",
            "source.port": "request.remote_port",
            "url.path": "request.path",
            "user.name": "auth.display_name auth.metadata.username",
            "error.message": "error",
            "event.type": "request.operation",
        },
        said={"error": [row(r"(?P<reason>.+)", "login", "failure")]},
        times="time",
    ),
    product(
        "teleport",
        "Teleport audit events.",
        "event code uid time",
        constants={"event.category": "session"},
        fields={
            "source": "addr.remote remote_addr",
            "user.name": "user",
            "event.code": "code",
            "event.action": "event",
            "host.name": "server_hostname",
            "error.message": "error",
        },
        cases={
            "event": {"user.login": {"event.category": "authentication", "event.action": "login"}, "auth": {**_FAILED}},
            "success": {"true": {"event.outcome": "success"}, "false": {"event.outcome": "failure"}},
        },
    ),
    product(
        "ntfy",
        "ntfy: refused visitors.",
        "visitor_ip",
        only_said=True,
        times="time",
        fields={
            "source": "visitor_ip",
            "user.name": "user_name",
            "http.request.method": "http_method",
            "url.path": "http_path",
            "http.response.status_code": "http_status",
        },
        said={
            "message": [
                row(r"(?P<reason>.*(?:[Aa]uthentication failed|unauthorized).*)", "login", "failure"),
                row(
                    r"(?P<reason>.*(?:limit reached|Too many requests).*)",
                    "http_rate_limited",
                    "failure",
                    category="web",
                ),
                row(r".*", category="web"),
            ]
        },
    ),
    product(
        "cowrie",
        "Cowrie, the SSH and Telnet honeypot.",
        "eventid src_ip",
        when={"eventid": ["cowrie."]},
        constants={"event.category": "intrusion_detection", "event.action": "honeypot_activity"},
        fields={
            "source": "src_ip",
            "source.port": "src_port",
            "destination": "dst_ip",
            "destination.port": "dst_port",
            "user.name": "username",
            "process.command_line": "input",
            "session.id": "session",
            "url.original": "url",
            "file.hash.sha256": "shasum",
            "event.code": "eventid",
        },
        cases={
            "eventid": {
                "cowrie.login.failed": login("failure", "honeypot_login"),
                "cowrie.login.success": login("success", "honeypot_login"),
                "cowrie.command.input": {"event.action": "honeypot_command"},
                "cowrie.session.connect": {"event.action": "honeypot_connect"},
            }
        },
    ),
)
