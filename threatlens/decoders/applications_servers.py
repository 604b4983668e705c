"""Sign-ins, refusals and probes as servers, consoles, honeypots and network devices write them."""

from __future__ import annotations

from threatlens.decoders.application import IP, PORT, Application, accepted, failed
from threatlens.decoders.tables import row

#: An address in brackets of the line's own.
_BARE = IP.removeprefix(r"\[?").removesuffix(r"\]?")
#: What Keycloak writes in front of the address; the client may choose its own name.
_CLIENT = r'(?:(?:realmId|realmName|clientId|userId|sessionId)=(?:"[^"]*"|[^",]*), ){1,5}'
_KEYCLOAK = r"[A-Z]{4,5} {1,3}\[org\.keycloak\.events\] \([^)]{1,80}\) "

_GITEA = r"(?:\S{1,120} )?(?:\[[\w-]{1,20}\] ){0,2}Failed authentication attempt "

SERVERS = (
    Application(
        "keycloak",
        "Keycloak: sign-ins.",
        {
            "org.keycloak.events": [
                failed(
                    _KEYCLOAK
                    + r'type="?\w{1,40}_ERROR"?, '
                    + _CLIENT
                    + r'ipAddress="?'
                    + IP
                    + r'"?, error="?(?P<reason>[\w ]{1,80})"?'
                    r'(?:, .*?username="?(?P<user>[^",]*)"?.*|.*)'
                ),
                accepted(
                    _KEYCLOAK
                    + r'type="?LOGIN"?, '
                    + _CLIENT
                    + r'ipAddress="?'
                    + IP
                    + r'"?(?:, .*?username="?(?P<user>[^",]*)"?.*|.*)'
                ),
            ]
        },
    ),
    Application(
        "gitea",
        "Gitea, Forgejo and Gogs: failed sign-ins.",
        {
            "Failed failed": [
                failed(
                    _GITEA + r"for (?P<user>.*) from (?P<src>[0-9a-fA-F:.]*?[0-9a-fA-F])(?::(?P<sport>[0-9]{1,5}))?"
                ),
                # What follows names the account again: with another " from " in it the line can be read two ways.
                failed(_GITEA + r"for (?P<user>(?:(?! from ).)*) from " + IP + PORT + r": (?:(?! from ).)*"),
                failed(_GITEA + r"for .*"),
                failed(_GITEA + r"from " + IP + PORT + r".*"),
            ]
        },
    ),
    Application(
        "home_assistant",
        "Home Assistant: failed sign-ins and bans.",
        {
            "homeassistant.components.http.ban": [
                failed(
                    r"[A-Z]{4,8} \([\w -]{1,40}\) \[homeassistant\.components\.http\.ban\] Login attempt or request with invalid authentication from "
                    r"(?:\S{1,255} \()?" + IP + r"\)?(?:\. Requested URL: '(?P<url>[^']*)'.*|.*)"
                ),
                row(
                    r"[A-Z]{4,8} \([\w -]{1,40}\) \[homeassistant\.components\.http\.ban\] Banned IP "
                    + IP
                    + r" for too many login attempts.*",
                    "address_banned",
                    "success",
                    category="intrusion_detection",
                ),
            ]
        },
    ),
    Application(
        "immich",
        "Immich: failed sign-ins.",
        {
            "AuthService": [
                failed(
                    r"(?:\[?\w{3,7}\]? )?(?:\[[^\]]{1,60}\] ?){1,3}Failed login attempt for user (?P<user>.*) from ip address "
                    + IP
                    + r"\.?"
                )
            ]
        },
    ),
    Application(
        "audiobookshelf.text",
        "Audiobookshelf's text log: failed sign-ins.",
        {
            "Auth": [
                failed(
                    r"[A-Z]{4,7}: \[Auth\] Failed login attempt for (?:username|user) "
                    + _user
                    + r" from ip "
                    + IP
                    + r"(?: \((?P<reason>[^()]*)\))?.{0,40}"
                )
                for _user in (r"\"(?P<user>.*)\"", r"(?P<user>.*)")
            ]
        },
    ),
    Application(
        "uptime_kuma",
        "Uptime Kuma: sign-ins.",
        {
            "AUTH": [
                failed(r"\[AUTH\] WARN: (?P<reason>[A-Z][\w ]{4,60}) for user (?P<user>.*)\. IP=" + IP),
                accepted(r"\[AUTH\] INFO: Success(?:fully)? [\w ]{4,40} user (?P<user>.*)\. IP=" + IP),
            ]
        },
    ),
    Application(
        "couchdb",
        "CouchDB: failed sign-ins.",
        {
            "couch_httpd_auth": [
                failed(
                    r"\S{1,255} <[0-9.]{1,20}> \S{1,40} couch_httpd_auth: Authentication failed for user (?P<user>.*) from "
                    + IP
                )
            ],
            "chttpd_auth": [
                failed(
                    r"\S{1,255} <[0-9.]{1,20}> \S{1,40} \S{0,40}: Authentication failed for user (?P<user>.*) from "
                    + IP
                )
            ],
        },
    ),
    Application(
        "adguardhome",
        "AdGuard Home: failed sign-ins.",
        {
            "auth": [
                failed(
                    r"(?:[0-9]{1,10}#[0-9]{1,10} )?\[(?:info|error)\] auth: failed to login user \"?(?P<user>.*?)\"? from ip \"?"
                    + IP
                    + r"\"?"
                ),
                failed(
                    r"(?:[0-9]{1,10}#[0-9]{1,10} )?\[(?:info|error)\] (?:POST \S{1,255} \S{1,40}: )?auth: (?P<reason>[\w ]{1,60}?):? (?:from ip|ip:?) \"?"
                    + IP
                    + r"\"?.*"
                ),
                accepted(
                    r"(?:[0-9]{1,10}#[0-9]{1,10} )?\[info\] auth: user \"(?P<user>.*)\" successfully logged in from ip \"?"
                    + IP
                    + r"\"?"
                ),
            ]
        },
    ),
    Application(
        "calibre_web",
        "Calibre-Web: failed sign-ins.",
        {
            "cps.web": [
                failed(r"[A-Z]{4,8} \{cps\.web:[0-9]{1,6}\} Login failed for user \"(?P<user>.*)\" IP-address: " + IP)
            ]
        },
    ),
    Application(
        "sabnzbd",
        "SABnzbd: failed sign-ins.",
        {
            "Unsuccessful": [
                failed(
                    r"(?:[A-Z]{4,8}::)?\[?(?:interface:[0-9]{1,6}\] )?Unsuccessful login attempt from "
                    + IP
                    + r"(?: .*)?"
                )
            ]
        },
    ),
    Application(
        "zoneminder",
        "ZoneMinder: refused sign-ins.",
        {
            ".ERR .WAR": [
                failed(
                    r"\S{0,40}\[[0-9]{1,10}\]\.(?:ERR|WAR) \["
                    + _BARE
                    + r"\] \[(?P<reason>Login denied) for user \"(?P<user>.*)\"\] at .*"
                ),
                failed(
                    r"\S{0,40}\[[0-9]{1,10}\]\.(?:ERR|WAR) \["
                    + _BARE
                    + r"\] \[(?P<reason>(?:Login denied|Could not retrieve|Invalid|No such user).*)\] at .*"
                ),
            ],
            "Login": [failed(r"(?:ERR|WAR) \[Login denied for user \"(?P<user>.*)\"\].*")],
        },
    ),
    Application(
        "meshcentral",
        "MeshCentral: failed sign-ins.",
        {
            "Failed": [
                failed(
                    r"(?:MESHCENTRAL: |AUTHLOG: )?(?:https: )?Failed (?:password|2FA|login)[\w ]{0,30} for (?:user )?(?P<user>.*) from "
                    + IP
                    + r" port (?P<sport>[0-9]{1,5})"
                )
            ]
        },
    ),
    Application(
        "seafile",
        "Seafile's Seahub: failed sign-ins.",
        {
            "seahub.auth.views": [
                failed(
                    r"\[?[A-Z]{4,8}\]? seahub\.auth\.views:[0-9]{1,5} \w{1,40} (?P<reason>Login attempt limit reached|Failed login)[\w ,.]{0,60}(?:, username: (?P<user>.*))?, ip: "
                    + IP
                    + r"(?:, .*)?"
                )
            ]
        },
    ),
    Application(
        "lemonldap",
        "LemonLDAP::NG: refused sign-ins.",
        {
            "LemonLDAP LLNG": [
                failed(
                    r"\[?\w{0,8}\]? ?(?:LemonLDAP::NG|LLNG) ?: (?:user )?(?P<user>.*) rejected with code [A-Z_]{1,40}.* \("
                    + IP
                    + r"\).*"
                ),
                failed(
                    r".{0,80}?(?:LemonLDAP::NG|LLNG) ?: (?P<reason>Wrong credentials|Bad credentials|Unable to authenticate)[^0-9]{0,200}"
                    + IP
                    + r".*"
                ),
            ]
        },
    ),
)
