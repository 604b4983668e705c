"""What discovery finds, and what it says about what it may not read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from threatlens.discovery import MAX_ENTRIES, Discovered, discover, is_rotated, last_lines, permission_remedy
from threatlens.event import Decoded

NOW = 1_800_000_000.0


def decode(line: str) -> Decoded:
    known = "sshd" in line
    return Decoded("sshd" if known else "unknown", None, line, {"process.name": "sshd"} if known else {})


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "log"
    folder.mkdir()
    return folder


def write(path: Path, content: str | bytes = "a line\n", age_s: float = 60) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    os.utime(path, (NOW - age_s, NOW - age_s))
    return path


def look(folder: Path, **options: object) -> dict[str, Discovered]:
    clocks = {"now": NOW, "clock": lambda: 0.0}
    options = {"decode": decode, "run_as": "lena", "journals": (), "docker": "/nonexistent", **clocks, **options}
    return {each.name: each for each in discover([str(folder)], **options)}  # type: ignore[arg-type]


def test_a_well_known_log_comes_with_its_last_whole_line_decoded(logs):
    write(logs / "auth.log", "old\nNov 1 sshd[1]: hello\nhalf")
    assert look(logs) == {
        "auth": Discovered(
            "auth", str(logs / "auth.log"), "file", True, 29, "sshd", "Nov 1 sshd[1]: hello", {"process.name": "sshd"}
        )
    }


def test_a_line_that_a_decoder_knows_is_shown_rather_than_its_continuation(logs):
    write(logs / "auth.log", "sshd: start\n   a continuation\n\n")
    assert look(logs)["auth"].sample == "sshd: start"


def test_files_of_one_kind_are_one_glob_with_the_newest_as_sample(logs):
    write(logs / "nginx/access.log", "1\n", 50)
    write(logs / "nginx/shop_access.log", "22\n", 5)
    write(logs / "nginx/access.log.1", "333\n", 1)
    write(logs / "nginx/access.log.2.gz", "4444\n", 1)
    found = look(logs)
    assert list(found) == ["nginx-access"]
    assert found["nginx-access"].path == str(logs / "nginx/*access*.log")
    assert (found["nginx-access"].kind, found["nginx-access"].size, found["nginx-access"].sample) == ("glob", 5, "22")


def test_an_empty_log_is_found_without_a_sample(logs):
    write(logs / "syslog", "")
    assert look(logs)["syslog"] == Discovered("syslog", str(logs / "syslog"), "file", True)


def test_other_logs_are_found_when_they_changed_within_a_week(logs):
    write(logs / "app/service.log")
    write(logs / "app/stale.log", age_s=8 * 86_400)
    write(logs / "app/notes.txt")
    write(logs / "app/.hidden.log")
    assert list(look(logs)) == ["service"]


def test_files_that_differ_in_a_date_are_one_glob(logs):
    write(logs / "app/web-2026-11-01.log")
    write(logs / "app/web-2026-11-02.log")
    assert look(logs)["web"].path == str(logs / "app/web-*.log")


def test_names_are_unique(logs):
    write(logs / "a/service.log")
    write(logs / "b/service.log")
    assert list(look(logs)) == ["service", "service-2"]


@pytest.mark.parametrize(
    ("name", "rotated"),
    [
        ("auth.log.1", True), ("auth.log.12.gz", True), ("app.log-20261101", True), ("app.log-20261101.gz", True),
        ("app.log.2026-11-01", True), ("x.old", True), ("x.log.bz2", True), ("auth.log", False), ("log.smbd", False),
        ("web-2026-11-01.log", False), ("v1.2.log", False),
    ],
)  # fmt: skip
def test_a_rotated_file_is_told_by_its_name(name, rotated):
    assert is_rotated(name) is rotated


def test_binary_files_are_named_and_not_offered(logs):
    write(logs / "wtmp", b"\0\1\2")
    write(logs / "app.log", b"ELF\0\0\n")
    found = look(logs)
    assert {name: (each.kind, each.readable) for name, each in found.items()} == {
        "app": ("binary", False),
        "wtmp": ("binary", False),
    }
    assert found["wtmp"].remedy.endswith("last")


def test_what_may_not_be_read_comes_with_the_exact_command(logs):
    path = write(logs / "auth.log", "sshd secret\n")
    os.chmod(path, 0o600)
    found = look(logs, can_read=lambda path: not path.endswith("auth.log"))["auth"]
    assert (found.readable, found.sample, found.format) == (False, "", "")
    assert found.remedy == f"sudo setfacl -m u:lena:r {path}"


def test_the_group_that_may_read_is_joined_rather_than_an_acl_set(logs, monkeypatch):
    path = write(logs / "auth.log")
    os.chmod(path, 0o640)
    monkeypatch.setattr("os.stat", lambda _path, stat=os.stat: os.stat_result((0o100640, 1, 1, 1, 0, 4, 0, 0, 0, 0)))
    remedy = permission_remedy(str(path), "lena", lambda each: not each.endswith("auth.log"))
    assert remedy.startswith("sudo usermod -aG adm lena ")


def test_a_folder_that_may_not_be_entered_is_told_with_its_command(logs):
    write(logs / "audit/audit.log")
    found = look(logs, can_read=lambda path: "audit" not in path)["audit"]
    assert not found.readable
    assert found.remedy == f"sudo setfacl -R -m u:lena:rX {logs}/audit"


def test_hostile_names_are_quoted_in_commands(logs):
    path = write(logs / "nginx/x; rm -rf $HOME access.log")
    assert permission_remedy(str(path), "a b", os.path.isdir).endswith(f"u:'a b':r '{path}'")


def test_links_out_of_the_roots_and_our_own_folder_are_not_looked_into(logs, tmp_path):
    write(tmp_path / "secret.log")
    (logs / "auth.log").symlink_to(tmp_path / "secret.log")
    (logs / "dir").symlink_to(tmp_path)
    write(logs / "own/own.log")
    os.mkfifo(logs / "pipe.log")
    assert look(logs, forbidden=[str(logs / "own")]) == {}


def test_a_machine_with_a_journal_only_is_told_what_to_do(logs, tmp_path):
    found = look(logs, journals=[str(tmp_path / "none"), str(tmp_path)])["journal"]
    assert (found.kind, found.readable, found.path) == ("journal", False, str(tmp_path))
    assert "rsyslog" in found.remedy
    write(logs / "secure")
    assert "journal" not in look(logs, journals=[str(tmp_path)])


def test_containers_are_found_within_the_roots_and_pointed_out_outside(logs, tmp_path):
    write(logs / "containers/abc/abc-json.log", '{"log": "x"}\n')
    found = look(logs, docker=str(logs / "containers"))["docker"]
    assert (found.path, found.readable) == (str(logs / "containers/*/*-json.log"), True)
    other = write(tmp_path / "containers/abc/abc-json.log").parent.parent
    found = look(logs, docker=str(other))["docker"]
    assert (found.kind, found.readable) == ("outside", False)
    assert "allowed_roots" in found.remedy


def test_the_search_is_bounded_in_depth_number_and_time(logs, monkeypatch):
    write(logs / "1/2/3/4.log")
    write(logs / "1/2/3/4/5.log")
    assert list(look(logs)) == ["4"]
    ticks = iter(range(1000))
    assert look(logs, clock=lambda: float(next(ticks))) == {}
    write(logs / "z.log")
    assert "z" in look(logs)
    monkeypatch.setattr("os.listdir", lambda _path: [*(f"{n}.x" for n in range(MAX_ENTRIES)), "z.log"])
    assert look(logs) == {}


def test_a_name_that_is_no_text_is_passed_over(logs):
    with open(os.fsencode(logs) + b"/\xff.log", "wb") as stream:
        stream.write(b"x\n")
    assert look(logs) == {}


def test_a_long_file_is_read_from_its_end_only(logs):
    path = write(logs / "syslog", "x" * 100_000 + "\nlast\n")
    assert last_lines(str(path)) == ["last"]


def test_undecodable_bytes_are_shown_replaced(logs):
    assert last_lines(str(write(logs / "syslog", b"a\xffb\r\n"))) == ["a\ufffdb"]
