"""The command line: what scripts rely on, and one sentence instead of a traceback."""

from __future__ import annotations

import gzip
import json
import os
import socket
import subprocess
import sys

import pytest

from threatlens.cli import visible
from threatlens.settings import PROJECT

LINES = (
    "Nov 23 06:51:07 web1 sshd[4211]: Failed password for root from 203.0.113.9 port 52144 ssh2\n"
    "Nov 23 06:51:09 web1 sshd[4211]: Accepted password for root from 203.0.113.9 port 52144 ssh2\n"
    "what is this\n"
)


def threatlens(data, *arguments, given: bytes = b"", **environ: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "threatlens", *arguments],
        cwd=PROJECT, env=dict(os.environ, THREATLENS_DATA=str(data), **environ), input=given,
        capture_output=True, timeout=300, check=False,
    )  # fmt: skip


def one_sentence(result: subprocess.CompletedProcess) -> str:
    text = result.stderr.decode()
    assert "Traceback" not in text
    assert text.strip()
    return text


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "auth.log"
    path.write_text(LINES)
    return path


def test_decode_prints_one_object_a_record(tmp_path, log):
    for given in ([str(log)], ["-"]):
        result = threatlens(tmp_path / "d", "decode", "--year", "2025", *given, given=LINES.encode())
        records = [json.loads(line) for line in result.stdout.splitlines()]
        assert [record["log.format"] for record in records] == ["sshd", "sshd", "unknown"]
        assert records[0]["@timestamp"] == "2025-11-23T06:51:07+00:00"
        assert records[0]["event.original"] == LINES.splitlines()[0]
    assert not (tmp_path / "d").exists()


def test_flask_knows_the_commands_too_and_starts_nothing_for_them(tmp_path, log):
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "threatlens", "decode", "--year", "2025", str(log)]
    result = subprocess.run(
        command, cwd=PROJECT, env=dict(os.environ, THREATLENS_DATA=str(tmp_path / "d")), capture_output=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, b"")
    assert len(result.stdout.splitlines()) == 3
    assert not (tmp_path / "d").exists()


def test_decode_reads_gzip_and_survives_a_closed_pipe(tmp_path):
    packed = tmp_path / "log.gz"
    packed.write_bytes(gzip.compress(LINES.encode() * 5_000))
    shell = f"{sys.executable} -m threatlens decode {packed} | head -n 1"
    result = subprocess.run(["sh", "-c", shell], cwd=PROJECT, capture_output=True, timeout=300, check=True)
    assert len(result.stdout.splitlines()) == 1
    assert result.stderr == b""


def test_a_file_of_records_is_decoded_and_ingested_once(tmp_path):
    file = tmp_path / "events.json"
    file.write_text(json.dumps([{"msg": "a"}, {"msg": "b"}], indent=1))
    decoded = threatlens(tmp_path / "data", "decode", str(file)).stdout.splitlines()
    assert [json.loads(line)["message"] for line in decoded] == ["a", "b"]
    assert b"2 events" in threatlens(tmp_path / "data", "ingest", str(file)).stdout
    assert b"0 events" in threatlens(tmp_path / "data", "ingest", str(file)).stdout


def test_a_damaged_event_log_is_told_in_a_sentence(tmp_path):
    file = tmp_path / "x.evtx"
    file.write_bytes(b"ElfFile\x00" + b"\xff" * 5000)
    result = threatlens(tmp_path / "data", "decode", str(file))
    assert (result.returncode, "event log" in one_sentence(result)) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["decode", "/no/such/file"], 1, "No such file"),
        (["decode", "--format", "nosuch", "-"], 2, "nosuch"),
        (["decode", "--tz", "Mars/Base", "-"], 2, "Mars/Base"),
        (["ingest", "/no/such/file"], 1, "No such file"),
        (["frobnicate"], 2, "frobnicate"),
        (["token", "create", "--name", "x", "--role", "root"], 1, "role"),
        (["token", "create", "--name", "a\nb", "--role", "admin"], 1, "name"),
        (["sources", "add", "x", "/etc/passwd"], 1, "allowed_roots"),
        (["sources", "remove", "nobody"], 1, "nobody"),
        (["serve", "--host", "0.0.0.0"], 1, "no administrator"),
        (["serve", "--port", "0"], 2, "port"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(tmp_path, arguments, code, words):
    result = threatlens(tmp_path / "data", *arguments)
    assert result.returncode == code
    assert words in one_sentence(result)


@pytest.mark.parametrize("arguments", [["decode", "-"], ["rules", "check", "builtin"], ["sources", "list"]])
def test_a_full_disk_below_the_output_is_said_in_a_sentence(tmp_path, arguments):
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [sys.executable, "-m", "threatlens", *arguments], cwd=PROJECT, stdout=full, stderr=subprocess.PIPE,
            env=dict(os.environ, THREATLENS_DATA=str(tmp_path / "data"), COLUMNS="1"), input=b"a line\n", check=False,
        )  # fmt: skip
    assert result.returncode == 1
    assert "No space left on device" in one_sentence(result)


def test_what_is_piped_carries_no_escape_codes(tmp_path, log):
    result = threatlens(tmp_path / "data", "ingest", str(log), COLUMNS="1")
    assert b"\x1b" not in result.stdout + result.stderr
    assert result.stdout.count(b"\n") == 1


def test_a_port_in_use_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = threatlens(tmp_path / "data", "serve", PORT=str(port))
    assert result.returncode == 1
    assert str(port) in one_sentence(result)


def test_a_bad_port_in_the_environment_is_named(tmp_path):
    result = threatlens(tmp_path / "data", "serve", PORT="eighty")
    assert result.returncode == 1
    assert "PORT" in one_sentence(result)


def test_a_file_is_ingested_once(tmp_path, log):
    first = threatlens(tmp_path / "data", "ingest", str(log), "--source", "auth")
    assert first.returncode == 0, first.stderr
    assert b"3 lines, 3 events, 1 unknown" in first.stdout
    again = threatlens(tmp_path / "data", "ingest", str(log), "--source", "auth")
    assert b"0 lines, 0 events" in again.stdout
    with open(log, "a") as file:
        file.write("one more, unterminated")
    more = threatlens(tmp_path / "data", "ingest", str(log), "--source", "auth")
    assert b"1 lines, 1 events" in more.stdout
    packed = tmp_path / "copy.log.gz"
    packed.write_bytes(gzip.compress(b"another line\n"))
    assert b"1 lines, 1 events" in threatlens(tmp_path / "data", "ingest", str(packed)).stdout


def test_the_summary_counts_what_the_rules_found(tmp_path):
    guesses = "".join(
        f"Nov 23 06:51:{second:02} web1 sshd[4211]: Failed password for root from 203.0.113.9 port 52144 ssh2\n"
        for second in range(30)
    )
    (tmp_path / "auth.log").write_text(guesses)
    summary = threatlens(tmp_path / "data", "ingest", str(tmp_path / "auth.log")).stdout.decode()
    assert "30 lines, 30 events" in summary
    assert int(summary.split(" detections")[0].rpartition(" ")[2]) > 0


def test_tokens_come_alone_on_standard_output(tmp_path):
    result = threatlens(tmp_path / "data", "token", "create", "--name", "cron", "--role", "viewer")
    assert result.stdout.startswith(b"tl_")
    assert len(result.stdout.split()) == 1
    again = threatlens(tmp_path / "data", "token", "create", "--name", "cron", "--role", "viewer")
    assert again.returncode == 1
    assert "already" in one_sentence(again)


def test_sources_are_added_listed_and_removed(tmp_path, log):
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "threatlens.yaml").write_text(f"allowed_roots: [{json.dumps(str(tmp_path))}]\n")
    assert threatlens(data, "sources", "add", "auth", str(log)).returncode == 0
    assert b"auth\t" in threatlens(data, "sources", "list").stdout
    assert threatlens(data, "sources", "remove", "auth").returncode == 0
    assert b"nothing is watched" in threatlens(data, "sources", "list").stdout


def test_migrate_says_what_it_did(tmp_path):
    assert b"none -> " in threatlens(tmp_path / "data", "migrate").stdout
    assert b"already" in threatlens(tmp_path / "data", "migrate").stdout


def test_log_text_cannot_act_on_a_terminal():
    assert visible("ok\x1b[2J\x07 \u202egnp.exe \u200b") == "ok\\x1b[2J\\x07 \\u202egnp.exe \\u200b"


def test_decoders_of_ones_own_read_on_the_command_line_too(tmp_path):
    folder = tmp_path / "data" / "decoders"
    folder.mkdir(parents=True)
    (folder / "shop.gate.yml").write_text("name: shop.gate\npattern: gate (?P<user>[a-z]+) refused\n")
    (folder / "broken.yml").write_text("name: [")
    result = threatlens(tmp_path / "data", "decode", "--explain", "-", given=b"gate alice refused\n")
    (record,) = map(json.loads, result.stdout.splitlines())
    assert (record["log.format"], record["user.name"]) == ("shop.gate", "alice")
    assert "broken.yml" in result.stderr.decode()
    assert threatlens(tmp_path / "data", "decode", "--format", "shop.gate", "-", given=b"x\n").returncode == 0
