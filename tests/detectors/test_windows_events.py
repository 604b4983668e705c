"""Rules of SigmaHQ see a Windows event by their own names for its fields, in whatever shape it arrives."""

from __future__ import annotations

import json

import pytest

from threatlens.decoders import SourceDecoder

RULE = """
title: Shadow copies are deleted
id: 33333333-3333-4333-8333-333333333333
level: critical
logsource: {product: windows, category: process_creation}
detection:
  selection:
    Image|endswith: '\\vssadmin.exe'
    CommandLine|contains|all: [delete, shadows]
    EventID: 1
    Computer: PC1.example.org
    Provider_Name: Microsoft-Windows-Sysmon
  condition: selection
"""
SYSMON = "Microsoft-Windows-Sysmon"
CHANNEL = SYSMON + "/Operational"
DATA = {"Image": "C:\\Windows\\System32\\vssadmin.exe", "CommandLine": "vssadmin delete shadows /all"}
HOST = "pc1.example.org"
ATTRIBUTES = {"#attributes": {"Name": SYSMON}}
SHAPES = {
    "dumped from .evtx": {
        "Event": {
            "System": {"Provider": ATTRIBUTES, "EventID": 1, "Channel": CHANNEL, "Computer": HOST}, "EventData": DATA,
        }
    },
    "dumped with qualifiers": {
        "Event": {
            "System": {"Provider": ATTRIBUTES, "EventID": {"#attributes": {"Qualifiers": 0}, "#text": 1},
                       "Channel": CHANNEL, "Computer": HOST},
            "EventData": DATA,
        }
    },
    "Winlogbeat": {
        "@timestamp": "2026-04-17T05:24:53.092Z",
        "winlog": {"channel": CHANNEL, "event_id": "1", "provider_name": SYSMON, "computer_name": HOST,
                   "event_data": DATA},
    },
    "Winlogbeat 6": {
        "@timestamp": "2026-04-17T05:24:53.092Z", "log_name": CHANNEL, "event_id": 1, "computer_name": HOST,
        "provider_name": SYSMON, "event_data": DATA,
    },
    "NXLog": {
        "EventTime": "2026-04-17 05:24:53", "Hostname": HOST, "EventID": 1, "SourceName": SYSMON, "Channel": CHANNEL,
        **DATA,
    },
}  # fmt: skip
XML = (
    '<Event xmlns="http://schemas.microsoft.com/win/2004/08/events/event"><System>'
    f'<Provider Name="{SYSMON}"/><EventID>1</EventID><Channel>{CHANNEL}</Channel><Computer>{HOST}</Computer></System>'
    "<EventData>" + "".join(f'<Data Name="{name}">{value}</Data>' for name, value in DATA.items()) + "</EventData>"
    "</Event>"
)
LINES = {**{name: json.dumps(value) for name, value in SHAPES.items()}, "XML": XML}


@pytest.mark.parametrize("shape", LINES)
def test_a_rule_matches_every_shape_of_the_event(engine, shape):
    decoded = SourceDecoder().decode(LINES[shape], 1_795_420_000.0)
    (match,) = engine(RULE).detect([(decoded, 0)]).matches

    assert match.host_name == HOST


@pytest.mark.parametrize(
    ("logsource", "wanted"),
    [
        ("{product: windows}", True),
        ("{product: windows, service: sysmon}", True),
        ("{product: windows, category: process_creation}", True),
        ("{category: process_creation}", True),
        ("{product: windows, category: image_load}", False),
        ("{product: windows, service: security}", False),
        ("{product: linux, category: process_creation}", False),
    ],
)
def test_channel_and_number_say_which_log_source_it_is(engine, logsource, wanted):
    decoded = SourceDecoder().decode(LINES["dumped from .evtx"], 1_795_420_000.0)
    made = engine(RULE.replace("{product: windows, category: process_creation}", logsource))

    assert bool(made.detect([(decoded, 0)]).matches) is wanted


def test_names_with_blanks_are_known_without_them(engine):
    event = {
        "Event": {
            "System": {"EventID": 1116, "Channel": "Microsoft-Windows-Windows Defender/Operational"},
            "EventData": {"Threat Name": "Tool:Win32/Example", "Source Name": "Real-Time Protection"},
        }
    }
    rule = (
        "title: T\nid: 33333333-3333-4333-8333-333333333333\nlogsource: {product: windows, service: windefend}\n"
        "detection:\n  a: {SourceName: Real-Time Protection, Threat Name|startswith: 'Tool:'}\n  condition: a\n"
    )
    decoded = SourceDecoder().decode(json.dumps(event), 1_795_420_000.0)

    assert engine(rule).detect([(decoded, 0)]).matches


WEB = (
    "title: T\nid: 33333333-3333-4333-8333-333333333333\nlogsource: {category: webserver}\n"
    "detection:\n  a: {cs-method: GET, cs-uri-query|contains: 'union select', sc-status: 200,"
    " cs-user-agent|startswith: sqlmap}\n  condition: a\n"
)


def test_names_of_web_servers_are_mapped_to_ours(engine):
    line = '192.0.2.1 - - [23/Nov/2026:06:51:07 +0000] "GET /a?q=1 union select 2 HTTP/1.1" 200 5 "-" "sqlmap/1.8"'
    decoded = SourceDecoder().decode(line, 1_795_420_000.0)

    (match,) = engine(WEB).detect([(decoded, 0)]).matches
    assert match.source_ip == "192.0.2.1"
