"""Sign-ins and refusals as applications for people write them: media, documents, passwords, business, hosting.

Where the account's name stands before the address, the address is the last thing of the line that fits; where it
stands behind, the address comes right after fixed words.
"""

from __future__ import annotations

from threatlens.decoders.application import ANY, IP, PORT, Application, accepted, failed, members
from threatlens.decoders.applications_devices import DEVICES
from threatlens.decoders.applications_servers import SERVERS
from threatlens.decoders.tables import Row, row

_PRIVATE = r"(?:10\.|127\.|192\.168\.|172\.(?:1[6-9]|2[0-9]|3[01])\.|f[cde][0-9a-f]{2}:|::1)[0-9a-fA-F.:]{0,45}"
#: X-Forwarded-For: what the outermost of our own proxies has seen, as clients may begin it with anything.
_CHAIN = rf'(?:[^"]{{0,400}}, )?(?P<src>(?!{_PRIVATE}[,"])[0-9a-fA-F:.]{{2,64}})(?:, {_PRIVATE}){{0,8}}'
_INSIDE = r"(?P<src>[0-9a-fA-F:.]{2,64})(?:, [0-9a-fA-F:.]{2,64}){0,8}"


def _web(pattern: str, outcome: str = "") -> Row:
    return row(pattern, "http_request", outcome, category="web")


_GIN = r"\| {1,20}[^|]{1,20}\| {0,40}" + IP + r" {0,3}\| (?P<http_method>[A-Z]{3,10}) {1,10}\"?(?P<url>[^\"]*)\"?.*"
_RAILS = r'Started (?P<http_method>[A-Z]{3,10}) "(?P<url>[^"]*)" for ' + IP + r" at .*"
_UVICORN = (
    IP + r':(?P<sport>[0-9]{1,5}) - "(?P<http_method>[A-Z]{3,10}) (?P<url>[^" ]*) HTTP/(?P<http_version>[0-9.]{1,3})" '
)
_METHODS = "GET POST PUT DELETE PATCH HEAD OPTIONS PROPFIND"

FRAMEWORKS = Application(
    "application",
    "Web frameworks' own lines: Gin, Rails, uvicorn, Django, Spring Security.",
    {
        _METHODS: [
            row(r"(?P<status>401|403) " + _GIN, "http_login", "failure", category="web"),
            _web(r"(?P<status>[45][0-9]{2}) " + _GIN, "failure"),
            _web(r"(?P<status>[123][0-9]{2}) " + _GIN, "success"),
            row(r"(?:INFO: {1,10})?" + _UVICORN + r"(?P<status>401|403).*", "http_login", "failure", category="web"),
            _web(r"(?:INFO: {1,10})?" + _UVICORN + r"(?P<status>[45][0-9]{2}).*", "failure"),
            _web(r"(?:INFO: {1,10})?" + _UVICORN + r"(?P<status>[123][0-9]{2}).*", "success"),
            _web(r"(?:#[0-9]{1,10}\] {1,3}[A-Z]{4,5} -- : )?(?:\[[0-9a-f-]{8,40}\] )?" + _RAILS),
        ],
    },
)

APPLICATIONS = (
    Application(
        "vaultwarden",
        "Vaultwarden: sign-ins, second factors, the admin page.",
        {
            "vaultwarden bitwarden_rs": [
                failed(
                    r"\[(?:vaultwarden|bitwarden_rs)::api::[\w:]{1,80}\]\[[A-Z]{4,5}\] "
                    r"(?P<reason>Username or password is incorrect)\. Try again\. IP: "
                    + IP
                    + r"\. Username: (?P<user>.*)\."
                ),
                failed(
                    r"\[(?:vaultwarden|bitwarden_rs)::api::[\w:]{1,80}\]\[[A-Z]{4,5}\] (?P<reason>[A-Z][\w ,'()-]{4,80})[.!]?"
                    r"(?: Server time: [0-9: UTC-]{1,30})?[.,]? IP: " + IP + r"(?:\. Username: (?P<user>.*?)\.?)?"
                ),
                accepted(
                    r"\[(?:vaultwarden|bitwarden_rs)::api::[\w:]{1,80}\]\[INFO\] User (?P<user>.*) logged in successfully"
                    r"(?: with [\w -]{1,30})?\. IP: " + IP
                ),
            ]
        },
    ),
    Application(
        "bitwarden",
        "Bitwarden server: failed sign-ins.",
        {"attempt": [failed(ANY + r"(?:Failed|Invalid) login attempt(?P<reason>, [\w ]{1,40})?\. " + IP)]},
    ),
    Application(
        "emby",
        "Emby: failed sign-ins.",
        {"AUTH-ERROR": [failed(r"(?:[A-Z][a-z]{2,8} )?[A-Z][\w ]{1,30}: AUTH-ERROR: " + IP + r" - (?P<reason>.*)")]},
    ),
    Application(
        "jellyfin",
        "Jellyfin: sign-ins.",
        {
            "Authentication": [
                failed(
                    ANY + r'Authentication request for "?(?P<user>.*?)"? has been denied \(IP: "?' + IP + r'"?\)\.?'
                ),
                accepted(ANY + r'Authentication request for "?(?P<user>.*?)"? has succeeded\.?'),
            ]
        },
    ),
    Application(
        "overseerr",
        "Overseerr, Jellyseerr and Seerr: failed sign-ins.",
        {
            "sign-in attempt": [
                failed(
                    r"\[[a-z]{4,7}\]\[[A-Za-z ]{2,20}\]: (?P<reason>Failed (?:sign-in|login) [\w ,'-]{1,120}) "
                    r'\{(?:"account":\{)?"ip":"' + IP + r'"(?:,"email":"(?P<user>(?:[^"\\]|\\.)*)".*|.*)'
                ),
            ]
        },
    ),
    Application(
        "ombi",
        "Ombi: failed sign-ins.",
        {
            "Failed": [
                failed(ANY + r"Failed login attempt by IP: " + IP),
                failed(ANY + r"Failed [Ll]ogin(?: attempt)? for user:? (?P<user>.*) from IP:? " + IP),
            ]
        },
    ),
    Application(
        "servarr",
        "Sonarr, Radarr, Prowlarr, Lidarr, Readarr, Whisparr: sign-ins.",
        {
            "Auth-Failure": [failed(ANY + r"Auth-Failure ip " + IP + r" username '(?P<user>.*)'")],
            "Auth-Success": [accepted(ANY + r"Auth-Success ip " + IP + r" username '(?P<user>.*)'")],
            "Auth-Unauthorized": [failed(ANY + r"Auth-Unauthorized ip " + IP + r" url '(?P<url>.*)'")],
            "Auth-Logout": [
                row(ANY + r"Auth-Logout ip " + IP + r" username '(?P<user>.*)'", "logout", category="session")
            ],
        },
    ),
    Application(
        "qbittorrent",
        "qBittorrent: sign-ins to its web page.",
        {
            "WebAPI WebUI": [
                failed(
                    r"(?:WebAPI|WebUI) login failure\. Reason: (?P<reason>[\w ]{1,80})"
                    r"(?:, attempt count: (?P<count>[0-9]{1,6}))?, IP: " + IP + r"(?:, username: (?P<user>.*))?"
                ),
                accepted(r"(?:WebAPI|WebUI) login success\. IP: " + IP + r"(?:, username: (?P<user>.*))?"),
            ]
        },
    ),
    Application(
        "filebrowser",
        "File Browser: refused sign-ins.",
        {
            "api": [
                failed(r"(?P<url>/api/login): (?P<status>40[13]) " + IP + PORT + r"(?: (?P<error>.*))?"),
                row(
                    r"(?P<url>/api/\S*): (?P<status>[0-9]{3}) " + IP + PORT + r"(?: (?P<error>.*))?",
                    "http_request",
                    category="web",
                ),
            ]
        },
    ),
    Application(
        "harbor",
        "Harbor registry: refused sign-ins.",
        {
            "basic_auth.go authenticate": [
                failed(
                    r"\[(?:ERROR|WARNING)\] \[[^\]]{1,200}\](?:\[client IP=\""
                    + chain
                    + r"\"(?>[^\]]{0,200}? user agent=\").*\"\])?: "
                    r"failed to authenticate user:(?P<user>.*), error:(?P<reason>.*)"
                )
                for chain in (_CHAIN, _INSIDE)
            ],
            "core": [
                failed(ANY + r"Login failed, locking (?P<user>.*), and sleep for .*"),
            ],
        },
    ),
    Application(
        "hestiacp",
        "Hestia and Vesta control panels: failed sign-ins.",
        {"failed": [failed(r"(?P<user>\S{1,64}) " + IP + r" failed to login")]},
    ),
    Application(
        "joplin",
        "Joplin Server: refused sign-ins.",
        {
            "App": [
                failed(
                    r"\[error\] App: (?P<status>40[13]): (?P<http_method>[A-Z]{3,8}) (?P<url>/api/sessions|/login): "
                    + IP
                    + r': (?P<reason>[\w ]{1,80}): \{"email":"(?P<user>.*)"\}.*'
                ),
                failed(
                    r"(?:\[error\] )?App: (?P<status>40[13]): (?P<http_method>[A-Z]{3,8}) (?P<url>\S*): "
                    + IP
                    + r": (?P<reason>.*)"
                ),
                failed(
                    r"App: "
                    + IP
                    + r": [0-9.]{1,9} [kMG]?i?B: (?P<http_method>[A-Z]{3,8}) (?P<url>/login|/api/sessions)"
                    r" \((?P<status>40[13])\) \([0-9.]{1,9}m?s\)"
                ),
                row(
                    r"App: "
                    + IP
                    + r": [0-9.]{1,9} [kMG]?i?B: (?P<http_method>[A-Z]{3,8}) (?P<url>\S*) \((?P<status>[0-9]{3})\) \([0-9.]{1,9}m?s\)",
                    "http_request",
                    category="web",
                ),
            ]
        },
    ),
    Application(
        "litespeed",
        "LiteSpeed's error log: failed sign-ins.",
        {
            "Login": [
                failed(
                    r"\[[A-Z]{3,7}\] \[[0-9]{1,10}\] \["
                    + IP
                    + r":(?P<sport>[0-9]{1,5})[^\]]{0,200}\] \[STDERR\] \[WebAdmin Console\] "
                    r"Failed Login Attempt - username:(?P<user>.*) ip:\S* url:.*"
                )
            ],
            "authenticate": [
                failed(
                    r"\[[A-Z]{3,7}\] \[[0-9]{1,10}\] (?:\[T[0-9]{1,3}\] )?\["
                    + IP
                    + r":(?P<sport>[0-9]{1,5})[^\]]{0,200}\] "
                    r"User '(?P<user>.*)' failed to authenticate\."
                )
            ],
        },
    ),
    Application(
        "odoo",
        "Odoo: sign-ins.",
        {
            "odoo.addons.base.models.res_users odoo.addons.base.res.res_users openerp.addons.base.res.res_users": [
                failed(
                    r"[0-9]{1,10} [A-Z]{4,8} \S{1,64} [\w.]{1,80}: Login failed for db:\S{1,64} login:(?P<user>.*) from "
                    + IP
                ),
                accepted(
                    r"[0-9]{1,10} [A-Z]{4,8} \S{1,64} [\w.]{1,80}: Login successful for db:\S{1,64} login:(?P<user>.*) from "
                    + IP
                ),
            ]
        },
    ),
    Application(
        "paperless",
        "Paperless-ngx: failed sign-ins.",
        {
            "paperless.auth": [
                failed(
                    r"\[[A-Z]{4,8}\] \[paperless\.auth\] Login failed for user `(?P<user>.*)` from (?:private )?IP `"
                    + IP
                    + r"\.?`\.?"
                ),
                failed(
                    r"\[[A-Z]{4,8}\] \[paperless\.auth\] Login failed for user `(?P<user>.*)` from (?P<reason>IP .*)"
                ),
            ]
        },
    ),
    Application(
        "proxmox",
        "Proxmox VE, Backup Server and Mail Gateway: sign-ins.",
        {
            "rhost": [failed(r"authentication failure; rhost=" + IP + PORT + r" user=(?P<user>.*) msg=(?P<reason>.*)")],
            "successful": [accepted(r"(?:<[^<>]{1,100}> )?successful auth for user '(?P<user>.*)'")],
        },
    ),
    Application(
        "pterodactyl",
        "Pterodactyl Wings: refused SFTP sign-ins.",
        {
            "credentials": [
                failed(
                    r"failed to validate user credentials \((?P<reason>[\w ]{1,60})\) ip="
                    + IP
                    + r":(?P<sport>[0-9]{1,5})"
                    r"(?: method=\S{1,30})? subsystem=sftp username=(?P<user>.*)"
                )
            ]
        },
    ),
    Application(
        "redmine",
        "Redmine: sign-ins.",
        {
            "Failed": [
                failed(
                    r"#[0-9]{1,10}\] {1,3}[A-Z]{4,5} -- : Failed login for '(?P<user>.*)' from " + IP + r" at .{1,40}"
                )
            ],
            "Successful": [
                accepted(
                    r"#[0-9]{1,10}\] {1,3}[A-Z]{4,5} -- : Successful authentication for '(?P<user>.*)' from "
                    + IP
                    + r" at .{1,40}"
                )
            ],
        },
    ),
    Application(
        "stirling_pdf",
        "Stirling-PDF: failed sign-ins.",
        {
            "s.s.S.c.s.CustomAuthenticationFailureHandler s.s.p.s.c.a.AuthController CustomAuthenticationFailureHandler": [
                failed(ANY + r"Failed login attempt from IP: " + IP),
                failed(
                    ANY + r"(?P<reason>Invalid password|Username not found|Account locked|Account disabled)"
                    r"[\w ]{0,20}(?: for)?:? (?:user: )?(?P<user>.*) from IP: " + IP
                ),
            ]
        },
    ),
    Application(
        "technitium",
        "Technitium DNS Server: sign-ins to its console.",
        {
            "DnsServerCore.DnsWebServiceException": [
                failed(
                    r"\["
                    + IP
                    + r":(?P<sport>[0-9]{1,5})\] DnsServerCore\.DnsWebServiceException: Invalid username or password for user: (?P<user>.*)"
                )
            ],
            "logged": [accepted(r"\[" + IP + r":(?P<sport>[0-9]{1,5})\] \[(?P<user>.*)\] User logged in\.")],
        },
    ),
    Application(
        "thehive",
        "TheHive: requests.",
        {
            "o.t.s.AccessLogFilter org.thp.scalligraph.AccessLogFilter": [
                row(
                    r"\[\w{4,5}\] \S{1,40}AccessLogFilter [^ ]{0,80}(?: in \S{1,80})? ?"
                    + IP
                    + r" (?P<http_method>[A-Z]{3,8}) (?P<url>\S*)"
                    r" took [0-9]{1,9}ms and returned (?P<status>" + status + r") (?P<size>[0-9]{1,12}) bytes",
                    action,
                    outcome,
                    category=category,
                )
                for status, action, outcome, category in (
                    ("401|403", "http_login", "failure", "authentication"),
                    ("[0-9]{3}", "http_request", "", "web"),
                )
            ]
        },
    ),
    Application(
        "zimbra",
        "Zimbra's mailbox log: refused sign-ins.",
        {
            "SoapEngine authentication": [
                failed(
                    r"[A-Z]{4,5} {1,3}\[[^\]]{1,200}\] \[(?:name=[^;\]]{0,200};)?(?:ip=[^;\]]{2,64};)?oip="
                    + IP
                    + r";[^\]]{0,2000}\] security - cmd=Auth; account=(?P<user>[^;]{0,300}); protocol=(?P<protocol>\w{2,12}); error=(?P<reason>.*)"
                ),
                failed(
                    r"[A-Z]{4,5} {1,3}\[[^\]]{1,200}\] \[(?:name=[^;\]]{0,200};)?(?:mid=[0-9]{0,9};)?oip="
                    + IP
                    + r";[^\]]{0,2000}\] [\w -]{1,40} - .{0,60}authentication failed for \[(?P<user>.*)\](?:, (?P<reason>.*))?"
                ),
                failed(
                    r"[A-Z]{4,5} {1,3}\[[^\]]{1,200}\] \[(?:name=(?P<user>[^;\]]{0,200});)?[^\]]{0,200}?oip="
                    + IP
                    + r";.*\] SoapEngine - handler exception.*"
                ),
            ],
        },
    ),
    Application(
        "cas",
        "Apereo CAS audit trail: sign-ins.",
        {
            "org.apereo.inspektr.audit.support.Slf4jLoggingAuditTrailManager AUTHENTICATION_FAILED": [
                failed(
                    r"[A-Z]{4,5} \[org\.apereo\.[\w.]{1,100}\] - .*\|(?:AUTHENTICATION_FAILED|[A-Z_]{1,60}_NOT_CREATED)\|(?P<user>.*)\|"
                    + IP
                    + r"\|[0-9a-fA-F:.]{2,64}"
                ),
                accepted(
                    r"[A-Z]{4,5} \[org\.apereo\.[\w.]{1,100}\] - .*\|AUTHENTICATION_SUCCESS\|(?P<user>.*)\|"
                    + IP
                    + r"\|[0-9a-fA-F:.]{2,64}"
                ),
            ],
        },
    ),
    Application(
        "mailcow",
        "mailcow's netfilter: bans and warnings.",
        {
            "Banning": [
                row(
                    r"[A-Z]{4,7}: Banning " + IP + r"/[0-9]{1,3} (?:for|permanently).*",
                    "address_banned",
                    "success",
                    category="intrusion_detection",
                )
            ],
            "denylist blacklist whitelist allowlist": [
                row(
                    r"[A-Z]{4,7}: (?P<reason>(?:Added|Removed) (?:host/)?network) "
                    + IP
                    + r"(?:/[0-9]{1,3})? (?:to|from) \w{1,20}",
                    "address_list_changed",
                    "success",
                    category="intrusion_detection",
                )
            ],
            "Unbanning": [
                row(
                    r"[A-Z]{4,7}: Unbanning " + IP + r"/[0-9]{1,3}.*",
                    "address_unbanned",
                    "success",
                    category="intrusion_detection",
                )
            ],
            "matched": [failed(r"[A-Z]{4,7}: " + IP + r" matched rule id (?P<rule__id>[0-9]{1,4}) \((?P<rule>.*)\)?")],
            "attempts": [
                row(
                    r"[A-Z]{4,7}: (?P<count>[0-9]{1,4}) more attempts in the next [0-9]{1,9} seconds until "
                    + IP
                    + r"/[0-9]{1,3} is banned",
                    "address_warned",
                    category="intrusion_detection",
                )
            ],
        },
    ),
    Application(
        "zoraxy",
        "Zoraxy: requests.",
        {
            "router": [
                row(
                    r"\[[0-9:. -]{10,30}\] \[router:[\w-]{1,40}\] \[origin:(?P<domain>[^\]]{0,255})\] \[client: ?"
                    + IP
                    + r"\]"
                    r"(?: \[useragent: ?(?P<agent>.*)\])? (?P<http_method>[A-Z]{3,10}) (?P<url>\S*) (?P<status>[0-9]{3})",
                    "http_request",
                    category="web",
                ),
            ]
        },
    ),
    Application(
        "sympa",
        "Sympa's web interface.",
        {
            "robot": [
                row(
                    r"\w{4,7} main::.{0,400}? ?\[robot \S{1,255}\] \[session [0-9]{1,30}\] \[client " + IP + r"\]"
                    r"(?: \[user (?P<user>[^\]]{1,255})\])?(?: \[list (?P<group>[^\]]{1,255})\])?(?P<reason>.*)",
                    "mailing_list_request",
                    category="web",
                )
            ]
        },
    ),
    Application(
        "cpanel",
        "cPanel and WHM: sign-ins.",
        {
            "cpaneld whostmgrd webmaild cpdavd": [
                failed(
                    r"info \[\w{4,12}\] "
                    + IP
                    + r" - (?P<user>.*) \"(?P<http_method>[A-Z]{3,8}) (?P<url>\S*) HTTP/[0-9.]{1,3}\" "
                    r"FAILED LOGIN \w{4,12}: (?P<reason>.*)"
                ),
                accepted(r"info \[\w{4,12}\] " + IP + r" (?:NEW|PURGE) (?P<user>.*):[^\s:]{1,100} address=.*"),
            ]
        },
    ),
)

DECODERS = members(FRAMEWORKS, (*APPLICATIONS, *SERVERS, *DEVICES))
