"""detect, rules check, rules test: what stands on standard output, and how they end."""

from __future__ import annotations

import gzip
import json
import os

import pytest
from click.testing import CliRunner

from threatlens.cli import main

RULES = """
title: Failed login
id: 11111111-1111-4111-8111-111111111111
name: failed_login
level: informational
logsource: {service: sshd}
detection:
  selection: {event.action: ssh_login, event.outcome: failure}
  condition: selection
---
title: Brute force
id: 22222222-2222-4222-8222-222222222222
level: high
tags: [attack.credential-access, attack.t1110.001]
correlation:
  type: event_count
  rules: [failed_login]
  group-by: [source.ip]
  timespan: 10m
  condition: {gte: 3}
threatlens:
  matching:
    - - 'Nov 23 12:00:01 web1 sshd[1]: Failed password for root from 203.0.113.9 port 1 ssh2'
      - 'Nov 23 12:00:02 web1 sshd[1]: Failed password for root from 203.0.113.9 port 1 ssh2'
      - 'Nov 23 12:00:03 web1 sshd[1]: Failed password for root from 203.0.113.9 port 1 ssh2'
  decoys:
    - 'Nov 23 12:00:01 web1 sshd[1]: Failed password for root from 203.0.113.9 port 1 ssh2'
"""
WINDOWS = """
title: Shadow copies are deleted
id: 33333333-3333-4333-8333-333333333333
level: critical
tags: [attack.t1490]
logsource: {product: windows, category: process_creation}
detection:
  selection:
    Image|endswith: '\\vssadmin.exe'
    CommandLine|contains|all: [delete, shadows]
  condition: selection
"""
LINE = "Nov 23 12:00:0{} web1 sshd[4211]: Failed password for root from 203.0.113.9 port 52144 ssh2"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("THREATLENS_DATA", str(tmp_path / "data"))
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "ssh.yml").write_text(RULES)

    def invoke(*arguments: str, stdin: bytes | None = None):
        return CliRunner().invoke(main, list(arguments), input=stdin, catch_exceptions=False)

    return invoke


def lines(count: int) -> bytes:
    return "".join(LINE.format(number) + "\n" for number in range(count)).encode()


def test_detect_prints_one_object_per_detection(run, tmp_path):
    result = run("detect", "--rules", str(tmp_path / "rules"), "--year", "2026", "-", stdin=lines(4))

    (found,) = map(json.loads, result.output.splitlines())
    assert result.exit_code == 0
    assert found["rule.id"] == "22222222-2222-4222-8222-222222222222"
    assert (found["rule.name"], found["rule.level"], found["severity"]) == ("Brute force", "high", 8)
    assert found["@timestamp"] == "2026-11-23T12:00:02+00:00"
    assert found["source.ip"] == "203.0.113.9"
    assert found["event.original"] == LINE.format(2)
    assert found["threat.technique.id"] == ["T1110.001"]


def test_detect_reads_gzip(run, tmp_path):
    file = tmp_path / "auth.log.gz"
    file.write_bytes(gzip.compress(lines(3)))

    assert run("detect", "--rules", str(tmp_path / "rules"), str(file)).output.count("\n") == 1


def test_detect_reads_windows_events_as_json(run, tmp_path):
    (tmp_path / "rules" / "windows.yml").write_text(WINDOWS)
    event = {
        "Event": {
            "System": {"EventID": 1, "Channel": "Microsoft-Windows-Sysmon/Operational", "Computer": "pc1"},
            "EventData": {
                "Image": "C:\\Windows\\System32\\vssadmin.exe",
                "CommandLine": "vssadmin Delete SHADOWS",
            },
        }
    }
    result = run("detect", "--rules", str(tmp_path / "rules"), "-", stdin=json.dumps(event).encode())

    found = json.loads(result.output)
    assert (found["rule.name"], found["host.name"]) == ("Shadow copies are deleted", "pc1")
    assert json.loads(found["event.original"]) == event


def test_detect_takes_the_shipped_rules(run):
    text = "".join(LINE.format(number % 10).replace(":0", ":1") + "\n" for number in range(30)).encode()

    assert "rule.id" in run("detect", "--rules", "builtin", "-", stdin=text).output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("detect", "--rules", "/nowhere", "-"), "no folder"),
        (("detect", "--rules", "builtin", "--format", "klingon", "-"), "no decoder"),
        (("detect", "-"), "--rules"),
    ],
)
def test_wrong_usage_is_a_sentence_and_code_2(run, arguments, said):
    result = run(*arguments)

    assert (result.exit_code, said in result.output) == (2, True)


def test_a_file_that_cannot_be_read_is_a_sentence_and_code_1(run, tmp_path):
    result = run("detect", "--rules", str(tmp_path / "rules"), str(tmp_path / "none.log"))

    assert result.exit_code == 1
    assert "cannot be read" in result.output


def test_an_event_log_that_is_none_is_a_sentence(run, tmp_path):
    (tmp_path / "bad.evtx").write_bytes(b"ElfFile\x00" + b"x" * 100)
    result = run("detect", "--rules", str(tmp_path / "rules"), str(tmp_path / "bad.evtx"))

    assert result.exit_code == 1
    assert "is not a readable event log" in result.output


def test_rules_check_counts_and_gives_reasons(run, tmp_path):
    (tmp_path / "rules" / "list.yml").write_text(
        WINDOWS.replace("3333-333333333333", "3333-333333333334").replace(
            "CommandLine|contains|all: [delete, shadows]", "User|expand: '%admins%'"
        )
    )
    result = run("rules", "check", str(tmp_path / "rules"))

    assert result.exit_code == 0
    assert "2 rules loaded, 1 unsupported, 0 broken" in result.output
    assert "list.yml:2: needs the list 'admins'" in result.output


def test_a_list_makes_its_rule_run(run, tmp_path):
    (tmp_path / "rules" / "list.yml").write_text(
        WINDOWS.replace("CommandLine|contains|all: [delete, shadows]", "User|expand: '%admins%'")
    )
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "admins.txt").write_text("# who may\nanna\n")
    result = run("rules", "check", "--lists", str(tmp_path / "lists"), str(tmp_path / "rules"))

    assert "3 rules loaded, 0 unsupported" in result.output


def test_a_broken_rule_names_file_and_line_and_harms_no_other(run, tmp_path):
    (tmp_path / "rules" / "broken.yml").write_text("title: broken\ndetection:\n  selection:\n    - foo: [bar\n")
    result = run("rules", "check", str(tmp_path / "rules"))

    assert result.exit_code == 1
    assert "2 rules loaded, 0 unsupported, 1 broken" in result.output
    assert "broken.yml:5: is not YAML" in result.output


def test_rules_test_runs_the_samples(run, tmp_path):
    assert run("rules", "test", str(tmp_path / "rules")).exit_code == 0

    (tmp_path / "rules" / "ssh.yml").write_text(RULES.replace("gte: 3", "gte: 4"))
    result = run("rules", "test", str(tmp_path / "rules"))

    assert result.exit_code == 1
    assert "ssh.yml:11: does not match: 3 lines from Nov 23" in result.output


def test_a_decoy_that_matches_is_told(run, tmp_path):
    (tmp_path / "rules" / "ssh.yml").write_text(RULES.replace("gte: 3", "gte: 1"))

    assert "matches the decoy" in run("rules", "test", str(tmp_path / "rules")).output


def test_compiled_rules_are_kept_for_the_owner_alone(run, tmp_path, monkeypatch):
    monkeypatch.setattr("threatlens.cli_detection._CACHED_FROM", 1)
    (tmp_path / "data").mkdir()
    run("rules", "check", str(tmp_path / "rules"))
    (cache,) = (tmp_path / "data" / "cache").iterdir()

    assert os.stat(cache).st_mode & 0o777 == 0o600
