"""Databases: MySQL, MariaDB, PostgreSQL, MongoDB, Redis, SQL Server. Names are quoted; addresses are the server's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from threatlens.decoders.base import LineDecoder, MessageDecoder, Opened, compiled
from threatlens.decoders.tables import Table, layout, row
from threatlens.decoders.times import Clock

_DB: dict[str, Any] = {"category": "database"}
_LOGIN = "database_login"
_USER_AT = r"'(?P<user>.*)'@'(?P<src>[^'\s]*)'"

#: What stands before the sentence where syslog has taken the head's place: a time, a thread, a level, codes.
_BEFORE = r"(?:[0-9T: .Z+-]{10,60} )?(?:0x[0-9a-f]{1,16} )?(?:\[[\w-]{1,20}\] ){0,3}"
_MYSQL = Table(
    {
        "": [
            row(
                rf"{_BEFORE}(?:\s*[0-9]{{1,12}}\s)?"
                rf"(?:Connect\s+)?Access denied for user {_USER_AT}(?:[ \t,].*)?",
                _LOGIN,
                "failure",
            ),
            row(
                rf"{_BEFORE}Host '(?P<src>[^'\s]*)' is "
                rf"(?:not allowed to connect|blocked because) .*",
                _LOGIN,
                "failure",
            ),
            row(
                rf"{_BEFORE}Aborted connection [0-9]+ to db: '(?>(?P<database>.{{0,200}}?)' user: ')"
                rf"(?P<user>.{{0,200}})'"
                rf" host: '(?P<src>[^'\s]*)'.*",
                "database_disconnect",
                **_DB,
            ),
            row(r"(?:\s*[0-9]{1,12}\s)?Connect\s+(?P<user>[^@\s]*)@(?P<src>\S+) on .*", "database_connect", **_DB),
            row(r"(?P<reason>.*)", **_DB),
        ],
    }
)
POSTGRESQL = Table(
    {
        "": [
            row(
                r"(?:password|Peer|Ident|LDAP|GSSAPI|PAM|RADIUS|SCRAM|"
                r"certificate|MD5|BSD|SSPI) authentication failed for user \"(?P<user>.*)\"",
                _LOGIN,
                "failure",
            ),
            row(
                r"no pg_hba\.conf entry for host \"(?P<src>[^\"\s]*)\", user"
                r" \"(?P<user>[^\"]*)\", database \"(?P<database>[^\"]*)\".*",
                _LOGIN,
                "failure",
            ),
            row(
                r"pg_hba\.conf rejects connection for host \"(?P<src>[^\"\s]*)\","
                r" user \"(?P<user>[^\"]*)\", database \"(?P<database>[^\"]*)\".*",
                _LOGIN,
                "failure",
            ),
            row(
                r"(?P<reason>role|database) \"(?P<user>.*)\" "
                r"(?:does not exist|is not permitted to log in)",
                _LOGIN,
                "failure",
            ),
            row(r"connection received: host=(?P<src>\S+) port=(?P<sport>[0-9]{1,5})", "database_connect", **_DB),
            row(
                r"connection (?:authorized|authenticated): "
                r"(?:user|identity)=\"?(?P<user>[^\s\"]+)\"? (?:database=(?P<database>\S+))?.*",
                _LOGIN,
                "success",
            ),
            row(
                r"disconnection: session time: \S+ user=(?P<user>\S+) database="
                r"(?P<database>\S+) host=(?P<src>\S+)(?: port=(?P<sport>[0-9]{1,5}))?",
                "database_disconnect",
                **_DB,
            ),
            row(r"(?P<reason>.*)", **_DB),
        ]
    }
)
_MONGO = Table(
    {
        "": [
            row(
                r"(?:ACCESS +)?\[\w+\] .{0,200}[Aa]uthentication failed for (?P<user>[^\s@]{0,256})(?:@\S{0,256})? on "
                r"(?P<database>\S+) from client (?P<src>[^\s;]+?)(?::(?P<sport>[0-9]{1,5}))?[ ;](?:.*)",
                _LOGIN,
                "failure",
            ),
            row(
                r"(?:ACCESS +)?\[\w+\] (?:auth|authenticate"
                r" db|.{0,200}[Aa]uthentication): ?.{0,2000}?fail.*",
                _LOGIN,
                "failure",
            ),
            row(r"(?:\w+ +)?\[\w+\] end connection (?P<src>\S+):(?P<sport>[0-9]{1,5}).*", "database_disconnect", **_DB),
            row(
                r"(?:\w+ +)?\[\w+\] connection accepted"
                r" from (?P<src>\S+):(?P<sport>[0-9]{1,5}).*",
                "database_connect",
                **_DB,
            ),
            row(
                r"(?:\w+ +)?\[\w+\] (?:Successfully|Client)"
                r" authenticated as principal (?P<user>\S+) on (?P<database>\S+).*",
                _LOGIN,
                "success",
            ),
            row(r"(?P<reason>.*)", **_DB),
        ]
    }
)
_MSSQL = Table(
    {
        "": [
            row(
                r"Login failed for user '(?>(?P<user>.{0,256})'\. Reason: )"
                r"(?P<reason>.{0,1000}) \[CLIENT: (?P<src>[^\]\s]+)\]\s*",
                _LOGIN,
                "failure",
            ),
            row(
                r"Login failed for user '(?P<user>.{0,256})'\. \[CLIENT: (?P<src>[^\]\s]+)\]\s*",
                _LOGIN,
                "failure",
            ),
            row(
                r"Login succeeded for user '(?>(?P<user>.{0,256}?)'\. ).{0,1000}\[CLIENT: (?P<src>[^\]\s]+)\]\s*",
                _LOGIN,
                "success",
            ),
            row(
                r"Error: (?P<code>[0-9]{1,9}),"
                r" Severity: (?P<reason>[0-9]+), State: .*",
                "database_error",
                "failure",
                **_DB,
            ),
            row(r"(?P<reason>.*)", **_DB),
        ]
    }
)
_REDIS = Table(
    {
        "Possible": [
            row(
                r"Possible SECURITY ATTACK detected\. .*?(?: Connection from (?P<src>[^\s:]+):"
                r"(?P<sport>[0-9]{1,5}) aborted\.)?",
                "database_attack",
                "failure",
                category="intrusion_detection",
            )
        ],
        "Accepted": [row(r"Accepted (?P<src>[0-9A-Fa-f.:]+):(?P<sport>[0-9]{1,5})", "database_connect", **_DB)],
        "Client": [row(r"Client closed connection.*", "database_disconnect", **_DB)],
        "": [row(r"(?P<reason>.*)", **_DB)],
    }
)
_LEVELS = r"(?:LOG|ERROR|FATAL|PANIC|WARNING|NOTICE|INFO|DETAIL|HINT|STATEMENT|CONTEXT|DEBUG[1-5]?)"

#: What ends a prefix of log_line_prefix that names the client.
_PREFIX_END = compiled(rf"[0-9a-fA-F:.]{{2,45}}(?:\([0-9]{{1,5}}\))? (?:{_LEVELS}): ").search


def _unambiguous(decoder: LineDecoder) -> LineDecoder:
    """The decoder without what a prefix says if another end of one follows: a user's name may hold the first."""
    inner = decoder.open

    def open_line(line: str, clock: Clock) -> Opened | None:
        opened = inner(line, clock)
        if opened is not None and _PREFIX_END(opened[4]) is not None:
            for name in ("source.ip", "source.address", "source.port", "user.id", "database.instance"):
                opened[5].pop(name, None)
        return opened

    return replace(decoder, open=open_line)


DECODERS = (
    layout(
        "mysql",
        r"(?P<time>[0-9]{6} [ 0-9][0-9]:[0-9]{2}:[0-9]{2}|[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]["
        r" 0-9][0-9]:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:?[0-9]{2})?)"
        r"\s{1,3}(?:(?:0x[0-9a-f]{1,16}|[0-9]{1,12}) )?(?:\[(?P<level>Warning|Note|ERROR|Error|System)\] ?)?"
        r"(?P<message>.*)",
        about="MySQL and MariaDB: refused logins, errors, in their own files or syslog.",
        leads=("000000 00:00:00", "000000  0:00:00", "0000-00-00 ", "0000-00-00T"),
        goes_on=(" Query\t", " Execute\t", " Prepare\t", "InnoDB", "[ERROR]"),
        marks=("[Warning]", "[Note]", "[ERROR]", "[Error]", "[System]", " Connect\t", "Access denied for user"),
        messages=_MYSQL,
        programs=("mysqld", "mariadbd", "mariadb", "mysqld_safe", "mysql"),
    ),
    _unambiguous(
        layout(
            "postgresql",
            r"(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}(?:\.[0-9]{1,6})? [A-Z]{3,5}) \[(?P<pid>[0-9]{1,10})\](?:[:"
            r" ]+(?:\[[0-9-]+\] )?)?(?:(?:user=)?(?P<user__id>[^\s@,]{0,64})[@,](?:db=)?"
            r"(?P<database__instance>[^\s,]{0,64})(?:,app=[^,\s]{0,64})?(?:(?:,client=|,| )(?P<src>[0-9a-fA-F:.]{2,45})"
            r"(?:\((?P<sport>[0-9]{1,5})\))?|,\S*)?(?: \[local\])? )?"
            rf"(?P<level>{_LEVELS}):\s+(?P<message>.*)",
            about="PostgreSQL: logins and errors, in its own file or syslog.",
            leads=("0000-00-00 00:00:00",),
            goes_on=(
                "statement: ",
                "STATEMENT: ",
                "execute ",
                "ERROR: ",
                "DETAIL: ",
                "CONTEXT: ",
                "QUERY: ",
                "duration: ",
            ),
            marks=("LOG: ", "ERROR: ", "FATAL: ", "DETAIL: ", "HINT: ", "STATEMENT: ", "WARNING: "),
            messages=POSTGRESQL,
        )
    ),
    layout(
        "postgresql.rds",
        r"(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8} [A-Z]{3,5}):(?P<src>[0-9a-fA-F:.]{2,45})"
        r"\((?P<sport>[0-9]{1,5})\):(?P<user__id>[^\s@:]{0,64})@(?P<database__instance>[^\s:]{0,64}):\[(?P<pid>[0-9]{1,10})\]:"
        rf"(?P<level>{_LEVELS}):\s+(?P<message>.*)",
        about="PostgreSQL as Amazon RDS writes it: logins and errors.",
        leads=("0000-00-00 00:00:00 AAA:",),
        goes_on=("statement: ", "STATEMENT: ", "ERROR: ", "DETAIL: "),
        messages=POSTGRESQL,
    ),
    layout(
        "mongodb",
        r"(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{3}(?:Z|[+-][0-9]{2}:?[0-9]{2})|[A-Z][a-z]{2}"
        r" [A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}\.[0-9]{3}) (?:(?P<level>[DIWEF]) )?(?P<message>(?:[A-Z]+"
        r" +)?\[[\w.-]+\] .*)",
        about="MongoDB before 4.4: connections and logins.",
        leads=("0000-00-00T00:00:00.000", "Aaa Aaa 00 00:00:00.000 [", "Aaa Aaa  0 00:00:00.000 ["),
        marks=(
            " [conn",
            " [initandlisten",
            " [listener",
            " [js]",
            " [main]",
            " [thread",
            " [signal",
            " [clientcursormon",
            " [ftdc",
        ),
        messages=_MONGO,
    ),
    layout(
        "mssql",
        r"(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}\.[0-9]{2}) (?P<logger>Logon|Server|spid[0-9]{1,6}s?|"
        r"Backup) +(?P<message>.*)",
        about="Microsoft SQL Server's error log: logins.",
        leads=("0000-00-00 00:00:00.00 ",),
        goes_on=("spid", "Server", "Backup"),
        messages=_MSSQL,
    ),
    layout(
        "redis",
        r"(?P<pid>[0-9]{1,10}):(?P<logger>[MSCX]) (?P<time>[0-9]{1,2} [A-Z][a-z]{2} (?:[0-9]{4} )?[0-9:]{8}"
        r"(?:\.[0-9]{1,6})?) [.*#-] (?P<message>.*)",
        about="Redis and Valkey: connections, attacks, state.",
        leads=("0:A 0", "00:A 0", "000:A 0", "0000:A 0", "00000:A 0", "000000:A 0", "0000000:A 0"),
        messages=_REDIS,
        programs=("redis", "redis-server", "valkey-server"),
    ),
    MessageDecoder(
        name="postgresql.syslog",
        about="PostgreSQL's messages in syslog, numbered.",
        read=Table(
            {
                "": [
                    row(
                        r"\[[0-9-]+\] (?:\S* )?(?:FATAL|ERROR|LOG): +(?:\w+"
                        r" authentication failed) for user \"(?P<user>.*)\"",
                        _LOGIN,
                        "failure",
                    ),
                    row(
                        r"\[[0-9-]+\] (?:\S* )?(?:FATAL|ERROR|LOG): +no pg_hba\.conf"
                        r" entry for host \"(?P<src>[^\"\s]*)\", user \"(?P<user>[^\"]*)\".*",
                        _LOGIN,
                        "failure",
                    ),
                    row(
                        r"\[[0-9-]+\] (?:\S* )?(?P<reason>(?:FATAL|ERROR|LOG|WARNING|DETAIL|HINT|STATEMENT): .*)", **_DB
                    ),
                ]
            }
        ).read,
        programs=("postgres", "postgresql"),
    ),
)
