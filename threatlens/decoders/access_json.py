"""Access logs in JSON or in pairs whose names are nginx's variables: what is left when no product is known."""

from __future__ import annotations

from threatlens.decoders.product import product
from threatlens.decoders.tables import row

DECODER = product(
    "access.json",
    "Access logs in JSON or pairs, with nginx's names.",
    "remote_addr status",
    web=True,
    times="time_iso8601 time_local msec",
    said={
        "request": [
            row(r"(?P<http_method>[A-Z]{2,20}) (?P<url>\S*) HTTP/(?P<http_version>[0-9.]{1,4})", category="web")
        ]
    },
    fields={
        "source": "remote_addr",
        "user.name": "remote_user",
        "http.request.method": "request_method method",
        "url.original": "request_uri uri",
        "url.domain": "host http_host server_name",
        "http.response.status_code": "status",
        "http.response.body.bytes": "body_bytes_sent bytes_sent",
        "user_agent.original": "http_user_agent user_agent",
        "http.request.referrer": "http_referer http_referrer",
    },
)
