"""Stack traces join their event; nothing else is swallowed."""
# ruff: noqa: E501

from __future__ import annotations

import pytest

from threatlens.decoders import decode_stored
from threatlens.decoders.records import decode_file

READ_AT_S = 1_795_435_200.0
JAVA = """2026-11-23 06:51:07,123 ERROR [main] org.example.Shop: order failed
java.lang.IllegalStateException: no stock
\tat org.example.Shop.order(Shop.java:17)
Caused by: java.io.IOException: closed
\t... 3 more"""
PYTHON = """2026-11-23 06:51:07,123 - shop - ERROR - order failed
Traceback (most recent call last):
  File "/srv/shop.py", line 17, in order
    take(7)
ValueError: no stock"""
NEXT = "2026-11-23 06:51:08,000 - shop - INFO - on it goes"


def records(text: str, **options) -> list[dict]:
    return list(decode_file(text.split("\n"), read_at_s=READ_AT_S, template_id=str, whole=True, **options))


def test_a_traceback_is_one_event_with_its_trace_and_the_next_line_another():
    first, second = records(PYTHON + "\n" + NEXT)
    assert first["event.original"] == PYTHON
    assert first["message"].startswith("order failed\nTraceback")
    assert first["error.stack_trace"].endswith("ValueError: no stock")
    assert second["message"] == "on it goes"


def test_what_is_stored_is_read_again_the_same():
    (record,) = records(PYTHON)
    stored = decode_stored(PYTHON, record["log.format"])
    assert (stored.message, stored.fields["error.stack_trace"]) == (record["message"], record["error.stack_trace"])


def test_the_parts_of_a_java_trace_join_what_they_follow():
    found = records(JAVA)
    assert len(found) == 1
    assert "Caused by" in found[0]["error.stack_trace"]


@pytest.mark.parametrize(
    "text",
    [
        "hello\n  indented",  # the first has no time: it is no event that one could continue
        NEXT + "\nno part of anything",
        NEXT + "\nValueError: but no trace in front",
        NEXT + "\n" + NEXT,
        NEXT + '\n {"msg": "indented, but an object"}',
    ],
)
def test_other_lines_are_events_of_their_own(text):
    assert len(records(text)) == (2 if "indented, but" not in text else len(records(text)))


def test_an_endless_trace_is_cut_into_events():
    found = records(NEXT + "\n    at x" * 2_000)
    assert all(record["event.original"].count("\n") < 500 for record in found)
    assert sum(record["event.original"].count("\n") + 1 for record in found) == 2_001


AUDIT = """type=SYSCALL msg=audit(1795416667.123:90): arch=c000003e syscall=59 success=yes exit=0 ppid=1 pid=121 auid=1000 uid=33 comm="sh" exe="/usr/bin/dash" key="exec"
type=EXECVE msg=audit(1795416667.123:90): argc=3 a0="sh" a1="-c" a2=6964203E202F746D702F78
type=CWD msg=audit(1795416667.123:90): cwd="/var/www"
type=PATH msg=audit(1795416667.123:90): item=0 name="/usr/bin/sh" inode=31 nametype=NORMAL
type=PROCTITLE msg=audit(1795416667.123:90): proctitle=7368002D63006964"""
CONNECT = """type=SYSCALL msg=audit(1795416667.123:91): syscall=42 success=no exit=-115 pid=122 uid=33 comm="sh" exe="/usr/bin/dash"
type=SOCKADDR msg=audit(1795416667.123:91): saddr=02001F90CB0071090000000000000000
type=PROCTITLE msg=audit(1795416667.123:91): proctitle=7368"""


def test_the_records_of_one_audit_event_are_one_event():
    first, second = records(AUDIT + "\n" + CONNECT)
    assert first["process.command_line"] == "sh -c id > /tmp/x"
    assert first["process.working_directory"] == "/var/www"
    assert (first["file.path"], first["user.id"], first["process.pid"]) == ("/usr/bin/sh", "33", 121)
    assert (first["event.action"], first["event.outcome"]) == ("command_executed", "success")
    assert first["auditd.records"] == ["SYSCALL", "EXECVE", "CWD", "PATH", "PROCTITLE"]
    assert (second["destination.ip"], second["destination.port"]) == ("203.0.113.9", 8080)
    assert second["event.outcome"] == "failure"


def test_audit_records_of_user_space_stay_by_themselves():
    login = "type=USER_LOGIN msg=audit(1795416667.123:92): pid=1 uid=0 msg='op=login acct=\"root\" addr=203.0.113.9 res=failed'"
    assert len(records(login + "\n" + login.replace("USER_LOGIN", "USER_AUTH"))) == 2


DOCKER = [
    '{"log":"2026-11-23 06:51:07,123 ERROR [main] org.example.Shop: order failed\\n","stream":"stdout","time":"2026-11-23T06:51:07.2Z"}',
    '{"log":"java.lang.IllegalStateException: no stock\\n","stream":"stdout","time":"2026-11-23T06:51:07.2Z"}',
    '{"log":"\\tat org.example.Shop.order(Shop.java:17)\\n","stream":"stdout","time":"2026-11-23T06:51:07.2Z"}',
]
CRI = [
    "2026-11-23T06:51:07.200000000Z stderr F unhandled Exception in worker 7",
    "2026-11-23T06:51:07.200000000Z stderr F Traceback (most recent call last):",
    '2026-11-23T06:51:07.200000000Z stderr F   File "/srv/shop.py", line 17, in order',
    "2026-11-23T06:51:07.200000000Z stderr F ValueError: no stock",
]
JOURNAL = [
    '{"__REALTIME_TIMESTAMP":"1795416667123000","_PID":"4211","SYSLOG_IDENTIFIER":"shop","MESSAGE":"unhandled Exception"}',
    '{"__REALTIME_TIMESTAMP":"1795416667123000","_PID":"4211","SYSLOG_IDENTIFIER":"shop","MESSAGE":"Traceback (most recent call last):"}',
    '{"__REALTIME_TIMESTAMP":"1795416667123000","_PID":"4211","SYSLOG_IDENTIFIER":"shop","MESSAGE":"  File \\"/srv/shop.py\\", line 17"}',
]


@pytest.mark.parametrize("lines", [DOCKER, CRI, JOURNAL], ids=["docker", "cri", "journal"])
def test_a_trace_in_the_lines_of_a_container_is_one_event(lines):
    (record,) = records("\n".join(lines))
    assert record["message"].count("\n") == len(lines) - 1
    assert record["error.stack_trace"].count("\n") == len(lines) - 2
    stored = decode_stored("\n".join(lines), record["log.format"])
    assert (stored.message, stored.fields.get("error.stack_trace")) == (record["message"], record["error.stack_trace"])


def test_traces_of_two_outputs_or_processes_are_not_mixed():
    assert len(records("\n".join([*CRI[:2], CRI[2].replace("stderr", "stdout")]))) == 2
    assert len(records("\n".join([*JOURNAL[:2], JOURNAL[2].replace("4211", "4212")]))) == 2


def test_the_parts_of_a_long_line_of_a_container_are_read_as_one():
    line = "Nov 23 06:51:07 web1 sshd[4211]: Failed password for root from 203.0.113.9 port 52144 ssh2"
    time = "2026-11-23T06:51:07.200000000Z stderr"
    (record,) = records(f"{time} P {line[:40]}\n{time} P {line[40:60]}\n{time} F {line[60:]}")
    assert (record["log.format"], record["source.ip"], record.get("log.partial")) == ("sshd", "203.0.113.9", None)
    long = "x" * 16_384
    (record,) = records(
        f'{{"log":"{long}","stream":"stdout","time":"2026-11-23T06:51:07.2Z"}}\n'
        '{"log":"yz\\n","stream":"stdout","time":"2026-11-23T06:51:07.2Z"}'
    )
    assert record["message"] == long + "yz"


CSV = """2026-11-23 06:51:07.123 UTC,"app","shop",4211,"203.0.113.9:52144",6922c1ab.1073,3,"SELECT",2026-11-23 06:51:07 UTC,3/12,0,ERROR,42P01,"relation ""x"" does not exist",,,,,,"select *
  from x
Nov 23 06:51:07 web1 sshd[1]: Accepted password for root from 192.0.2.1 port 22 ssh2
where 1",15,,"psql","client backend",,0"""


def test_a_csv_record_reaches_to_its_last_quote_whatever_stands_inside():
    first, second = records(CSV + "\n" + CSV)
    assert (first["log.format"], first["source.ip"], first["user.name"]) == ("postgresql.csv", "203.0.113.9", "app")
    assert first["database.statement"].count("\n") == 3
    assert first["client.application"] == "psql"
    assert second["event.original"] == CSV


def test_a_report_of_ejabberd_is_read_with_its_second_line():
    head = "=INFO REPORT==== 2026-11-23 06:51:07 ==="
    text = "I(<0.370.0>:ejabberd_c2s:633) : (x) Failed authentication for bob@example.org from IP 203.0.113.9 (y)"
    first, second = records(f"{head}\n{text}\n{head}\n{text}")
    assert (first["source.ip"], first["event.outcome"]) == ("203.0.113.9", "failure")
    assert second["event.original"] == f"{head}\n{text}"


def test_a_report_in_a_containers_output_says_the_same_when_it_is_read_again():
    head = "2026-11-23T06:51:07.200000000Z stderr F "
    report = [
        "=INFO REPORT==== 2026-11-23 06:51:07 ===",
        "I(<0.370.0>:ejabberd_c2s:633) : (x) Failed authentication for bob@example.org from IP 203.0.113.9 (y)",
    ]
    (record,) = records("\n".join(head + line for line in report))
    again = decode_stored(record["event.original"], record["log.format"])
    assert record["source.ip"] == again.fields["source.ip"] == "203.0.113.9"
    assert record["message"] == again.message == report[1]
