"""Apprise against real HTTP servers on the loopback address, in the process of its own that it runs in."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from ipaddress import ip_network

import pytest
from receivers import noted

from threatlens.channels import AppriseNotifier, Attachment
from threatlens.errors import ChannelError
from threatlens.notifications_arrived import TAKEN
from threatlens.outbound import OutboundClient
from threatlens.outbound_apprise import PROGRAM, tell
from threatlens.outbound_apprise import Note as Told
from threatlens.outbound_apprise_child import RefusedError, guard, masked
from threatlens.outbound_urls import Permissions

LOOPBACK = Permissions((ip_network("127.0.0.0/8"),))
TOKEN = "ATokenThatNobodyMaySee"


def at(hook, scheme: str, path: str = "", credentials: str = "") -> str:
    return f"{scheme}://{credentials}{hook.url.split('//')[1].partition('/')[0]}{path}"


def test_a_service_is_told_and_nothing_in_it_calls_anybody(hook, client, message):
    note = noted()
    delivery = AppriseNotifier("any", at(hook, "json", "/in"), client).send(message, note)
    assert TAKEN.match(note.room)

    (request,) = hook.received
    document = json.loads(request.body)
    assert document["type"] == "failure"
    assert "Password guessing" in document["title"]
    assert "203.0.113.9" in document["message"]
    assert "/a/x" in document["message"]
    assert "@everyone" not in request.body.decode()
    assert any(line.startswith("> to 127.0.0.1, port ") for line in delivery.transcript)
    assert delivery.transcript[-1] == "< taken"


def test_its_url_is_nowhere_in_what_is_shown(hook, client, message):
    hook.answers = [(401, {})]
    url = at(hook, "gotify", f"/{TOKEN}")

    note = noted()
    with pytest.raises(ChannelError) as caught:
        AppriseNotifier("any", url, client).send(message, note)
    assert not TAKEN.match(note.room)

    assert hook.received, "it was really asked"
    assert caught.value.permanent, "401 stays 401"
    assert TOKEN not in str(caught.value) + "".join(caught.value.transcript)


def test_a_service_that_is_out_of_order_is_tried_again(hook, client, message):
    hook.answers = [(500, {})]
    with pytest.raises(ChannelError) as caught:
        AppriseNotifier("any", at(hook, "ntfy", "/topic"), client).send(message)
    assert not caught.value.permanent


def test_the_guard_holds_in_the_process_and_redirects_are_not_followed(hook, make_hook, message):
    other = make_hook()
    with pytest.raises(ChannelError, match="private address") as caught:
        AppriseNotifier("any", at(hook, "json"), OutboundClient(Permissions)).send(message)
    assert caught.value.permanent
    assert hook.received == []

    hook.answers = [(302, {"Location": other.url})]
    assert not tell(at(hook, "json"), Told("t", "b", "info"), LOOPBACK).delivered
    assert other.received == []


@pytest.mark.parametrize(
    ("url", "why"),
    [("nonsense://x", "knows no service"), ("syslog://", "nothing on this machine"),
     ("jsons://127.0.0.1/?verify=no", "verify=no")],
)  # fmt: skip
def test_what_is_no_service_elsewhere_is_refused(url, why):
    told = tell(url, Told("t", "b", "info"), LOOPBACK)
    assert not told.delivered
    assert told.final
    assert why in told.problem


def test_a_report_goes_along_where_the_service_takes_files(hook, client, message):
    report = replace(message, attachments=(Attachment("r.pdf", "application/pdf", b"%PDF-1.7 x"),))
    AppriseNotifier("any", at(hook, "json"), client).send(report)
    assert json.loads(hook.received[0].body)["attachments"][0]["filename"] == "r.pdf"


def test_a_service_that_hangs_is_left_in_time(hook, message):
    import threading

    hook.hold = threading.Event()
    told = tell(at(hook, "json"), Told("t", "b", "info"), LOOPBACK, timeout_s=1)
    hook.hold.set()
    assert (told.delivered, told.final, told.problem) == (False, False, "the service gave no whole answer in time")


@pytest.mark.parametrize(
    ("event", "values"),
    [
        ("socket.connect", (2, ("169.254.169.254", 80))),
        ("socket.connect", (2, ("10.0.0.1", 443))),
        ("socket.connect", (10, ("::ffff:10.0.0.1", 443, 0, 0))),
        ("socket.connect", (1, "/run/docker.sock")),
        ("socket.sendto", (2, ("192.168.1.1", 443))),
        ("socket.sendmsg", (2, ("8.8.8.8", 25))),
        ("socket.connect", (2, ("rebound.example.org", 443))),
        ("subprocess.Popen", ("sh", [], None, None)),
        ("os.system", (b"id",)),
        ("os.posix_spawn", ("sh", [], {})),
        ("os.fork", ()),
        ("syslog.syslog", (3, "x")),
    ],
)
def test_the_hook_refuses(event, values):
    class Socket:
        family = values[0] if event.startswith("socket.") else 0

    refused: list[str] = []
    with pytest.raises(RefusedError):
        guard(Permissions(), [], refused)(event, (Socket, *values[1:]) if event.startswith("socket.") else values)
    assert refused


def test_the_process_starts_nothing_and_writes_nothing(tmp_path):
    """The hook and the limits as they are in force there, tried with what a plugin could do."""
    tried = (
        "import os, sys, subprocess, threatlens.outbound_apprise_child as child\n"
        "real = child._told\n"
        "def told(*given):\n"
        "    found = []\n"
        "    for deed in (lambda: subprocess.run(['true']), lambda: os.system('true'), lambda: os.fork(),\n"
        f"                 lambda: open({str(tmp_path / 'x')!r}, 'w').write('x' * 99999)):\n"
        "        try: deed()\n"
        "        except OSError as error: found.append(type(error).__name__)\n"
        "    return {'found': found}\n"
        "child._told = told\n"
    )
    program = PROGRAM.replace("from threatlens", tried + "from threatlens").replace("; import os", "\nimport os")
    order = {"url": "", "title": "", "body": "", "kind": "info", "networks": [], "ports": [], "file": None}
    here = __file__.rpartition("/tests/")[0]
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", program, here], input=json.dumps(order).encode(), capture_output=True,
        check=False, timeout=300,
    )  # fmt: skip
    assert json.loads(done.stdout)["found"] == ["RefusedError"] * 3 + ["OSError"], done.stderr


def test_every_part_of_a_url_that_may_be_a_secret_is_masked():
    url = "tgram://123456789:ABC-def_ghi/-10012345?thread=4711&pass=p%40ssw0rd"
    line = "could not post to bot123456789:ABC-def_ghi for -10012345 thread 4711 with p@ssw0rd or p%40ssw0rd"
    shown = masked(line, url)
    for secret in ("123456789", "ABC-def_ghi", "10012345", "4711", "ssw0rd"):
        assert secret not in shown
    assert shown.startswith("could not post to")
