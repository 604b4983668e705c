"""Web servers' lines that the usual readers do not know: lighttpd's error log, access logs with other columns."""

from __future__ import annotations

from threatlens.decoders.tables import Table, layout, row

_LIGHTTPD = Table(
    {
        "": [
            row(
                r"\(\S*auth\.c\.[0-9]+\) password doesn't match for "
                r"(?P<url>\S*) username: (?P<user>.*?),? IP: (?P<src>\S+)",
                "http_login",
                "failure",
            ),
            row(
                r"\(\S*auth\.c\.[0-9]+\) digest: auth failed for"
                r" (?P<user>.*): wrong password,? IP: (?P<src>\S+)",
                "http_login",
                "failure",
            ),
            row(r"\(\S*auth\.c\.[0-9]+\) get_password failed,? IP: (?P<src>\S+)", "http_login", "failure"),
            row(r"\(\S*auth\.c\.[0-9]+\) (?P<reason>.*), IP: (?P<src>\S+)", "http_login", "failure"),
            row(r"\([\w.-]+\.c\.[0-9]+\) (?P<reason>.*)", category="web"),
        ]
    }
)

DECODERS = (
    layout(
        "lighttpd.error",
        r"(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}): (?P<message>\([\w./-]+\.c\.[0-9]+\) .*)",
        about="lighttpd's error log: failed logins.",
        leads=("0000-00-00 00:00:00: (",),
        messages=_LIGHTTPD,
    ),
    layout(
        "access.variant",
        r"(?P<src>[0-9A-Fa-f.:]{3,45}) {1,2}- {1,3}(?:-|(?P<user>[^\s\"\[\]]{1,255})) {1,2}(?:- )?\["
        r"(?P<time>[0-9]{1,2}/[^\W\d_]{3,10}\.?/[0-9]{4}:[0-9:]{8}(?: ?[+-][0-9]{4}| )?)\] (?:"
        r"(?P<domain>[\w.-]{1,255}) )?\"(?P<http_method>[A-Z]{2,20}) (?P<url>[^\s\"]{1,8000})(?: HTTP/"
        r"(?P<http_version>[0-9.]{1,4}))?\" (?P<status>[0-9]{3})(?: (?P<size>[0-9]{1,15})|-)?(?: \""
        r"(?P<referrer>[^\"]*)\" \"(?P<agent>[^\"]*)\")?(?: .*)?",
        about="Access logs like the common format, with a column more, no zone, or months of another language.",
        leads=("0", "a", "A", ":"),
        marks=("] ",),
        category="web",
        action="http_request",
    ),
)
