"""JSON of intrusion detection and runtime sensors, a row each."""

from __future__ import annotations

from threatlens.decoders.product import login, product

_IDS = {"event.category": "intrusion_detection", "event.kind": "alert", "event.action": "ids_alert"}

DECODERS = (
    product(
        "sshesame.json",
        "sshesame, an SSH honeypot, in JSON.",
        "time source event_type event",
        constants={"event.category": "intrusion_detection", "event.action": "honeypot_event"},
        fields={"source": "source", "user.name": "event.user"},
        cases={
            "event.accepted": {"true": login("success", "honeypot_login"), "false": login("failure", "honeypot_login")}
        },
        times="time",
    ),
    product(
        "suricata.eve",
        "Suricata's EVE: alerts, flows, HTTP, DNS, TLS.",
        "event_type src_ip",
        constants={"event.category": "network", "event.kind": "event"},
        fields={
            "event.action": "event_type",
            "source": "src_ip",
            "source.port": "src_port",
            "destination": "dest_ip",
            "destination.port": "dest_port",
            "network.transport": "proto",
            "network.protocol": "app_proto",
            "rule.name": "alert.signature",
            "rule.id": "alert.signature_id",
            "rule.category": "alert.category",
            "event.severity": "alert.severity",
            "http.request.method": "http.http_method",
            "url.original": "http.url",
            "url.domain": "http.hostname tls.sni",
            "http.response.status_code": "http.status",
            "user_agent.original": "http.http_user_agent",
            "dns.question.name": "dns.rrname",
            "dns.question.type": "dns.rrtype",
            "event.type": "alert.action",
        },
        cases={"event_type": {"alert": _IDS}},
    ),
    product(
        "zeek.json",
        "Zeek's logs in JSON.",
        "ts id.orig_h id.resp_h",
        times="ts",
        constants={"event.category": "network"},
        fields={
            "source": "id.orig_h",
            "source.port": "id.orig_p",
            "destination": "id.resp_h",
            "destination.port": "id.resp_p",
            "network.transport": "proto",
            "network.protocol": "service",
            "source.bytes": "orig_bytes",
            "destination.bytes": "resp_bytes",
            "http.request.method": "method",
            "url.original": "uri",
            "url.domain": "host server_name",
            "http.response.status_code": "status_code",
            "user_agent.original": "user_agent",
            "dns.question.name": "query",
            "dns.question.type": "qtype_name",
            "event.id": "uid",
            "user.name": "username user",
            "rule.name": "note",
        },
        cases={
            "auth_success": {
                "true": login("success", "ssh_login"),
                "false": login("failure", "ssh_login"),
            }
        },
    ),
    product(
        "falco",
        "Falco: runtime alerts.",
        "rule priority output",
        constants=_IDS,
        times="time",
        fields={
            "rule.name": "rule",
            "log.level": "priority",
            "process.name": "output_fields.proc.name",
            "process.command_line": "output_fields.proc.cmdline",
            "user.name": "output_fields.user.name",
            "container.id": "output_fields.container.id",
            "container.name": "output_fields.container.name",
            "file.path": "output_fields.fd.name",
            "host.name": "hostname",
        },
    ),
    product(
        "wazuh",
        "Wazuh and OSSEC alerts.",
        "rule agent manager",
        constants=_IDS,
        times="timestamp",
        fields={
            "rule.name": "rule.description",
            "rule.id": "rule.id",
            "event.severity": "rule.level",
            "host.name": "agent.name",
            "source": "data.srcip",
            "source.port": "data.srcport",
            "user.name": "data.srcuser data.dstuser",
            "destination": "data.dstip",
            "threat.technique.id": "rule.mitre.id",
            "event.provider": "decoder.name",
        },
    ),
)
