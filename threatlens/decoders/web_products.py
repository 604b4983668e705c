"""Requests as web servers, proxies and content networks write them in JSON, a row each."""

from __future__ import annotations

from threatlens.decoders.product import product
from threatlens.decoders.tables import row

DECODERS = (
    product(
        "traefik.json",
        "Traefik access log in JSON.",
        "ClientHost RequestMethod",
        web=True,
        fields={
            "source": "ClientHost ClientAddr",
            "source.port": "ClientPort",
            "user.name": "ClientUsername",
            "http.request.method": "RequestMethod",
            "url.original": "RequestPath",
            "url.domain": "RequestHost",
            "http.version": "RequestProtocol",
            "http.response.status_code": "DownstreamStatus OriginStatus",
            "http.response.body.bytes": "DownstreamContentSize",
            "user_agent.original": "request_User-Agent",
            "http.request.referrer": "request_Referer",
            "service.name": "ServiceName",
            "url.scheme": "RequestScheme",
        },
        times="time StartUTC",
    ),
    product(
        "caddy",
        "Caddy access log.",
        "request status",
        when={"request.method": [""]},
        web=True,
        fields={
            "source": "request.client_ip request.remote_ip request.remote_addr",
            "source.port": "request.remote_port",
            "user.name": "user_id",
            "http.request.method": "request.method",
            "url.original": "request.uri",
            "url.domain": "request.host",
            "http.version": "request.proto",
            "http.response.status_code": "status",
            "http.response.body.bytes": "size bytes_written",
            "user_agent.original": "request.headers.User-Agent",
            "http.request.referrer": "request.headers.Referer",
        },
        times="ts",
    ),
    product(
        "caddy.waf",
        "Coraza, the web application firewall in Caddy.",
        "logger msg",
        when={"logger": ["http.handlers.waf"]},
        only_said=True,
        times="ts",
        said={
            "msg": [
                row(
                    r'\[client "(?P<src>[0-9a-fA-F:.]{2,64})"\] Coraza: (?P<reason>[^\[]{0,400}?) ?\[file "(?P<file>[^"]*)"\]'
                    r' \[line "[0-9]*"\] \[id "(?P<rule__id>[0-9]{1,12})"\](?: \[rev "[^"]*"\])? \[msg "(?P<rule>[^"]*)"\].*',
                    "waf_alert",
                    category="intrusion_detection",
                    also={"event.kind": "alert"},
                ),
                row(
                    r'\[client "(?P<src>[0-9a-fA-F:.]{2,64})"\] Coraza: (?P<reason>.*)',
                    "waf_alert",
                    category="intrusion_detection",
                    also={"event.kind": "alert"},
                ),
            ]
        },
    ),
    product(
        "envoy.json",
        "Envoy and Istio access log in JSON.",
        "start_time response_code method",
        web=True,
        times="start_time",
        fields={
            "source": "downstream_remote_address downstream_direct_remote_address",
            "http.request.method": "method",
            "url.original": "x-envoy-origin-path x-envoy-original-path path :path",
            "url.domain": "authority :authority",
            "http.version": "protocol",
            "http.response.status_code": "response_code",
            "http.response.body.bytes": "bytes_sent",
            "user_agent.original": "user_agent user-agent",
            "destination": "upstream_host",
        },
    ),
    product(
        "cloudflare",
        "Cloudflare's HTTP requests (Logpush).",
        "ClientIP ClientRequestMethod",
        web=True,
        times="EdgeStartTimestamp",
        fields={
            "source": "ClientIP",
            "http.request.method": "ClientRequestMethod",
            "url.domain": "ClientRequestHost",
            "url.original": "ClientRequestURI ClientRequestPath",
            "http.response.status_code": "EdgeResponseStatus",
            "user_agent.original": "ClientRequestUserAgent",
            "http.request.referrer": "ClientRequestReferer",
            "http.response.body.bytes": "EdgeResponseBytes",
            "http.version": "ClientRequestProtocol",
        },
    ),
    product(
        "aws.waf",
        "AWS WAF: requests and what became of them.",
        "webaclId httpRequest",
        times="timestamp",
        constants={"event.category": "web", "event.action": "waf_request"},
        fields={
            "source": "httpRequest.clientIp",
            "http.request.method": "httpRequest.httpMethod",
            "url.original": "httpRequest.uri",
            "http.version": "httpRequest.httpVersion",
            "rule.id": "terminatingRuleId",
            "event.type": "action",
            "source.geo.country_iso_code": "httpRequest.country",
        },
        cases={
            "action": {
                "block": {"event.action": "http_denied", "event.outcome": "failure"},
                "allow": {"event.outcome": "success"},
            }
        },
    ),
    product(
        "gcp.http",
        "Google Cloud load balancers' requests.",
        "httpRequest",
        web=True,
        times="timestamp",
        when={"httpRequest.requestMethod": [""]},
        fields={
            "source": "httpRequest.remoteIp",
            "http.request.method": "httpRequest.requestMethod",
            "url.original": "httpRequest.requestUrl",
            "http.response.status_code": "httpRequest.status",
            "user_agent.original": "httpRequest.userAgent",
            "http.request.referrer": "httpRequest.referer",
            "http.response.body.bytes": "httpRequest.responseSize",
        },
    ),
)
