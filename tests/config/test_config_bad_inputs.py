"""The bad inputs C01-C15, each with what is expected of it."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from threatlens import config_file
from threatlens.channels import Message
from threatlens.channels.email import compose
from threatlens.config import MonitoringConfig


def peak_rss_kib() -> int:
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])


@pytest.mark.parametrize("text", ["", "# only\n# comments\n", "---\n", "\n\n", "sources:\n"])
def test_c01_an_empty_file_means_the_defaults_and_a_warning_that_nothing_is_read(machine, text):
    machine.write(text)
    manager = machine.manager()
    assert manager.load_config() == MonitoringConfig()
    assert manager.errors == []
    assert any("no source is enabled" in warning for warning in manager.warnings)


@pytest.mark.parametrize(
    ("content", "line", "column", "words"),
    [
        (b"max_queue_size: 200\nsources: # \xe4\n", 2, 12, "not UTF-8"),
        ("max_queue_size: 200\n".encode("utf-16"), 1, 1, "UTF-16"),
        (b"retention:\n\tevents_days: 1\n", 2, 1, "a tab cannot indent"),
        (b'max_queue_size: 200\nllm: {model: "x}\nsources: []\n', 2, 14, "never closed"),
        (b"sources: 'x\n", 1, 10, "never closed"),
        (b"llm: {model: a\x07}\n", 1, 15, "U\\+0007"),
        (b"sources:\n  - name: a\n path: b\n", 3, 2, ""),
        (b"llm: {model: @x}\n", 1, 14, "quotes"),
        (b"a: 1\n---\nb: 2\n", 2, 1, "second document"),
        (b"- a\n- b\n", 1, 1, "keys with values"),
    ],
)
def test_c02_what_is_not_yaml_is_told_with_line_and_column(machine, content, line, column, words):
    machine.write(content)
    error = machine.error()
    assert re.search(words, error.message)
    assert (error.file, error.line, error.column) == (str(machine.file), line, column)


@pytest.mark.parametrize(
    "tagged",
    [
        "!!python/object/apply:os.mkdir ['{data}/marker']",
        "!!python/object/new:os.system ['touch {data}/marker']",
        "!!str x",
        "!local x",
        "! x",
        "!!binary eA==",
    ],
)
def test_c03_tags_are_not_allowed_and_nothing_runs(machine, tagged):
    machine.write(f"max_queue_size: 200\nsources: {tagged}\n")
    error = machine.error()
    assert error.message == "tags are not allowed"
    assert (error.line, error.column) == (2, 10)
    assert not (machine.data / "marker").exists()


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGHS, "aliases repeat more than 100 values"),
        ("sources: " + "[" * 100_000, "nested deeper than 32"),
        ("sources:\n" + "".join(" " * n + "-\n" for n in range(1, 1000)), "nested deeper than 32"),
        ("sources: " + "{a: " * 100_000, "nested deeper than 32"),
        ("#" * 50_000_000, "50000000 bytes"),
        ("sources: [" + "a," * 500_000 + "]", "more than 50000 values"),
        ("a: &a [*a]\n", "no value named &a"),
    ],
    ids=["laughs", "flow", "block", "mappings", "50MB", "values", "recursive"],
)
def test_c04_bombs_are_refused_early_and_without_memory(machine, monkeypatch, text, words):
    take, taken = config_file._Builder.take, []
    monkeypatch.setattr(config_file._Builder, "take", lambda *given: (taken.append(None), take(*given)))
    machine.write(text)
    before = peak_rss_kib()
    error = machine.error()
    assert re.search(words, error.message)
    assert len(taken) < 60_000
    assert peak_rss_kib() - before < 20 * 1024


def test_c04_a_few_aliases_are_welcome(machine):
    machine.write_rest(
        "sources:\n  - &one {name: a, path: '{logs}/a'}\n"
        "channels:\n  - {name: m, type: email, to: &us [a@example.org]}\n  - {name: n, type: email, to: *us}\n"
    )
    manager = machine.manager()
    assert manager.load_config().channels[1].to == ("a@example.org",)
    assert manager.errors == []


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        ("sources: []\nmax_queue_size: 200\nsources: []\n", "'sources' is given twice: in lines 1 and 3", 3),
        (
            "sources:\n  - name: a\n    path: /var/log/a\n  - name: a\n    path: /var/log/b\n",
            "two sources are named 'a': in lines 2 and 4",
            4,
        ),
        ("retention:\n  events_days: 1\n  events_days: 2\n", "'events_days' is given twice: in lines 2 and 3", 3),
        ("allowed_roots: [/var/log]\n<<: {}\n", "merging with << is not supported", 2),
    ],
)
def test_c05_what_is_given_twice_is_told_with_both_lines(machine, text, words, line):
    machine.write(text)
    error = machine.error()
    assert words in error.message
    assert error.line == line


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("sources:\n  - {name: a, path: /var/log/a, pollling_interval: 1}\n", "sources.0.pollling_interval",
         "did you mean 'polling_interval'?"),
        ("max_que_size: 1\n", "max_que_size", "did you mean 'max_queue_size'?"),
        ("retention: {event_days: 1}\n", "retention.event_days", "did you mean 'events_days'?"),
        ("zzz: 1\n", "zzz", "known are "),
        ("channels:\n  - {name: a, type: webhook, url: 'https://x.org', secrte: x}\n", "channels.0.secrte", "'secret'"),
    ],
)  # fmt: skip
def test_c06_an_unknown_key_is_told_with_the_one_that_was_meant(machine, text, key, words):
    machine.write(text)
    error = machine.error()
    assert "unknown key" in error.message
    assert words in error.message
    assert error.key == key


@pytest.mark.parametrize(
    "value", ["0", "-1", "1e9", "'fast'", "fast", "true", ".nan", ".inf", "[]", "'1'", "012", "1:30"]
)
def test_c07_a_polling_interval_that_cannot_be_is_told_with_the_range(machine, value):
    machine.write_rest(f"sources:\n  - name: a\n    path: '{machine.logs}/a'\n    polling_interval: {value}\n")
    error = machine.error()
    assert "must be a number from 0.05 to 3600 (seconds)" in error.message
    assert (error.key, error.line) == ("sources.0.polling_interval", 5)


@pytest.mark.parametrize(
    ("key", "low", "high"),
    [
        ("processing_batch_size", 1, 20_000),
        ("max_queue_size", 100, 10_000_000),
        ("health_check_interval", 1, 3600),
    ],
)
def test_c07_whole_numbers_hold_their_ranges_to_the_ends(machine, key, low, high):
    for value in (low, high):
        machine.write(f"{key}: {value}\n")
        assert getattr(machine.manager().load_config(), key) == value
    for value in (low - 1, high + 1, f"{low}.5", "010", "9" * 5000, "yes", "'5'"):
        machine.write(f"{key}: {value}\n")
        assert f"must be a whole number from {low} to {high}" in machine.error().message


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("5", "must be text"),
        ("[]", "must be text"),
        ("''", "must not be empty"),
        ("", "'path' is missing"),
        ("'~/x'", "'~' is not expanded"),
        ("'~root/x'", "'~' is not expanded"),
        ("'$HOME'", "variables are not expanded"),
        ("'/home/${USER}/x'", "variables are not expanded"),
        ("'C:\\x'", "Windows path"),
        ("'\\\\server\\share'", "Windows path"),
        ("logs/x.log", "is relative"),
        ("'*.log'", "is relative"),
        ('"/var/log/\\0x"', "U\\+0000|NUL"),
        ("/" + "a" * 5000, "longer than 4096 bytes"),
        ("/" + "a" * 300, "longer than 255 bytes"),
    ],
)
def test_c08_a_path_that_cannot_be_meant_is_an_error_that_says_so(machine, path, words):
    machine.write_rest(f"sources:\n  - name: a\n    path: {path}\n")
    assert re.search(words, machine.error().message)


def test_c08_nothing_is_expanded_and_slashes_are_tidied(machine):
    machine.write_rest("sources:\n  - {name: a, path: '{logs}//x/./[$]HOME ~.log'}\n")
    (source,) = machine.manager().load_config().sources
    assert source.path == f"{machine.logs}/x/[$]HOME ~.log"


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "/etc/*", "{logs}2/x", "../../etc/passwd", "{logs}/../data/x", "{logs}/link/x",
     "{logs}/link/*.log", "/proc/self/environ", "/proc/kmsg", "/sys/kernel/x", "/dev/zero", "/dev/stdin"],
)  # fmt: skip
def test_c09_f03_a_source_outside_the_roots_is_refused_naming_path_and_roots(machine, path):
    (machine.logs / "link").symlink_to("/etc")
    machine.write_rest(f"sources:\n  - name: a\n    path: {path}\n")
    error = machine.error()
    assert str(machine.logs) in error.message
    assert path.replace("{logs}", str(machine.logs)) in error.message
    assert error.key == "sources.0.path"


@pytest.mark.parametrize("path", ["/proc/self/environ", "/sys/x", "/dev/stdin", "/dev/*"])
def test_c09_system_folders_are_refused_under_any_root(machine, path):
    machine.write(f"allowed_roots: [/]\nallow_root_filesystem: true\nsources:\n  - name: a\n    path: {path}\n")
    assert "where no logs are" in machine.error().message


def test_c09_the_whole_file_system_needs_a_word_more_and_stays_a_warning(machine):
    machine.write("allowed_roots: ['/']\n")
    assert "allow_root_filesystem: true" in machine.error().message
    machine.write("allowed_roots: ['/']\nallow_root_filesystem: true\n")
    manager = machine.manager()
    assert manager.load_config().allowed_roots == ("/",)
    assert manager.errors == []
    assert any("holds '/'" in warning for warning in manager.warnings)


@pytest.mark.parametrize("root", ["/proc", "/dev/shm", "/sys/", "logs", "~/logs", "/var/*", "''", "[]"])
def test_c09_a_root_that_cannot_be_is_refused(machine, root):
    machine.write(f"allowed_roots: [{root}]\n")
    assert machine.error().key == "allowed_roots.0"


def test_c09_a_link_to_a_folder_within_the_roots_is_fine(machine):
    (machine.logs / "real").mkdir()
    (machine.logs / "link").symlink_to(machine.logs / "real")
    machine.write_rest("sources:\n  - {name: a, path: '{logs}/link/x.log'}\n")
    manager = machine.manager()
    manager.load_config()
    assert manager.errors == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("path: '{data}/threatlens.db'", "own data"),
        ("path: '{data}/*.log'", "own data"),
        ("path: '{parent}/*/*.log'", "own data"),
        ("path: '{parent}/**/*.log'", "own data"),
        ("path: '{parent}/d?ta/reports/*'", "own data"),
        ("path: '{parent}', recursive: true", "own data"),
    ],
)
def test_f23_our_own_data_is_never_a_source(machine, source, words):
    source = source.replace("{parent}", str(machine.logs.parent))
    machine.write(f"allowed_roots: ['{machine.logs.parent}']\nsources:\n  - {{name: a, {source}}}\n")
    assert words in machine.error().message


@pytest.mark.parametrize("path", ["{parent}", "{parent}/*", "{parent}/logs/**/*.log", "{parent}/*.log/x"])
def test_f23_a_source_beside_our_data_is_allowed(machine, path):
    path = path.replace("{parent}", str(machine.logs.parent))
    machine.write(f"allowed_roots: ['{machine.logs.parent}']\nsources:\n  - {{name: a, path: '{path}'}}\n")
    manager = machine.manager()
    manager.load_config()
    assert manager.errors == []


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/**/*", "own data|whole file system"),
        ("{logs}/[", "never closed"),
        ("{logs}/[a-", "never closed"),
        ("/" + "*" * 1000, "longer than|alone"),
        ("{logs}/" + "*" * 200, "alone"),
        ("{logs}/**/x/**/y", "once"),
        ("{logs}/a**/b", "alone"),
        ("{logs}/" + "*a" * 40, "more than 16 wildcards"),
    ],
)
def test_c10_a_glob_without_bounds_is_refused_at_once(machine, path, words):
    machine.write(f"allowed_roots: ['/']\nallow_root_filesystem: true\nsources:\n  - name: a\n    path: '{path}'\n")
    started = time.thread_time()
    assert re.search(words, machine.error().message)
    assert time.thread_time() - started < 5


@pytest.mark.parametrize("pattern", ["a/b", "''", "'['", "'**'", "x" * 300])
def test_c10_a_file_pattern_that_cannot_be_is_refused(machine, pattern):
    machine.write_rest(f"sources:\n  - {{name: a, path: '{{logs}}', file_pattern: {pattern}}}\n")
    assert machine.error().key == "sources.0.file_pattern"


@pytest.mark.parametrize("key", ["file_pattern: '*.x'", "recursive: true"])
def test_c10_what_is_for_folders_does_not_go_with_a_glob(machine, key):
    machine.write_rest(f"sources:\n  - {{name: a, path: '{{logs}}/*.log', {key}}}\n")
    assert "is for folders" in machine.error().message


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("start_at: middle", "'middle' is not one of: beginning, end"),
        ("format: nosuch", "'nosuch' is not one of: auto, json, nginx.access, sshd, syslog.rfc3164"),
        ("format: ssh", "did you mean 'sshd'?"),
        ("timezone: Europe/Berln", "did you mean 'Europe/Berlin'?"),
        ("timezone: ../../etc/passwd", "not the name of a time zone"),
        ("timezone: Europe", "not the name of a time zone"),
        ("encoding: utf-9", "not an encoding of text"),
        ("encoding: hex", "not an encoding of text"),
        ("encoding: punycode", "not an encoding of log files"),
        ("encoding: undefined", "not an encoding of"),
        ("enabled: 1", "must be true or false"),
        ("enabled: 'true'", "must be true or false"),
    ],
)
def test_c11_a_wrong_choice_is_told_with_the_choices(machine, setting, words):
    machine.write_rest(f"sources:\n  - {{name: a, path: '{{logs}}/a', {setting}}}\n")
    assert words in machine.error().message


@pytest.mark.parametrize(
    ("value", "meaning"),
    [("yes", "a truth value"), ("no", "a truth value"), ("on", "a truth value"), ("Off", "a truth value"),
     ("012", "a number"), ("1:30", "a number"), ("2026-01-01", "a date"), ("5", "a number"), ("1_000", "a number"),
     ("0x1F", "a number"), (".inf", "a number"), ("true", "a truth value")],
)  # fmt: skip
def test_c12_text_that_yaml_takes_for_something_else_must_be_quoted(machine, value, meaning):
    machine.write_rest(f"sources:\n  - {{name: {value}, path: '{{logs}}/a'}}\n")
    assert machine.error().message == f"must be text, but {value} without quotes is {meaning}; write '{value}'"
    machine.write_rest(f"sources:\n  - {{name: '{value}', path: '{{logs}}/a'}}\n")
    assert machine.manager().load_config().sources[0].source_name == value


@pytest.mark.parametrize("name", ["''", "' a'", '"a\\nb"', '"a\\u202eb"', "x" * 101])
def test_a_source_name_is_one_printable_line(machine, name):
    machine.write_rest(f"sources:\n  - {{name: {name}, path: '{{logs}}/a'}}\n")
    assert machine.error().key == "sources.0.name"


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/", "file:///etc/passwd", "gopher://example.org/", "http://user:p@host"]
)
@pytest.mark.parametrize("channel", ["{name: a, type: webhook, url: 'URL'}", "{name: a, type: slack, url: 'URL'}"])
def test_c13_a_url_that_may_not_be_called_is_refused_at_load(machine, channel, url):
    machine.write(f"channels:\n  - {channel.replace('URL', url)}\n")
    error = machine.error()
    assert error.key == "channels.0.url"
    assert "p@" not in str(error)


def test_c13_private_addresses_need_their_network_allowed_and_metadata_never_is(machine):
    text = "channels:\n  - {name: a, type: webhook, url: 'http://10.1.2.3/hook'}\n"
    machine.write(text)
    assert "allowed_private_networks" in machine.error().message
    machine.write(text + "allowed_private_networks: [10.0.0.0/8, 169.254.0.0/16]\n")
    manager = machine.manager()
    manager.load_config()
    assert manager.errors == []
    machine.write(text.replace("10.1.2.3", "169.254.169.254") + "allowed_private_networks: [169.254.0.0/16]\n")
    assert "never called" in machine.error().message


@pytest.mark.parametrize(
    ("host", "key"),
    [("10.1.2.3", None), ("localhost", None), ("169.254.169.254", "channels.0.smtp.host"),
     ("METADATA.google.internal.", "channels.0.smtp.host")],
)  # fmt: skip
def test_c13_a_mail_server_may_be_private_and_is_never_a_metadata_address(machine, host, key):
    machine.write(f"channels:\n  - {{name: a, type: email, to: [a@example.org], smtp: {{host: '{host}'}}}}\n")
    manager = machine.manager()
    manager.load_config()
    assert [error.key for error in manager.errors] == ([key] if key else [])


@pytest.mark.parametrize(
    ("address", "taken"),
    [("a@example.org", True), ("größe.ü@bücher.example", True), ("a+b=c'd@mail-1.example.org", True), (".a@b", False),
     ("a.@b", False), ("a..b@c", False), ("a@b.", False), ("a@[192.0.2.1]", False), ("(a)@b", False), ("a:b@c", False),
     ("a@b@c", False), ("a\\\\b@c", False)],
)  # fmt: skip
def test_a_mail_address_is_one_that_can_stand_in_a_header(machine, address, taken):
    machine.write(f'channels:\n  - {{name: a, type: email, to: ["{address}"]}}\n')
    manager = machine.manager()
    config = manager.load_config()
    assert [error.key for error in manager.errors] == ([] if taken else ["channels.0.to.0"])
    if taken:
        message = Message(key="k", kind="test", title="t", severity=1, timestamp="")
        mail = compose(message, "t@example.org", config.channels[0].to)
        assert [each.addr_spec for each in mail["To"].addresses] == [address]


def test_c13_the_address_of_a_language_model_is_judged_once_it_is_used(machine):
    text = "llm: {enabled: false, base_url: 'http://127.0.0.1:11434/v1'}\n"
    machine.write(text)
    manager = machine.manager()
    manager.load_config()
    assert manager.errors == []
    machine.write(text.replace("false", "true"))
    assert machine.error().key == "llm.base_url"
    machine.write(text.replace("http://127", "file://127"))
    assert machine.error().key == "llm.base_url"


SECRETS = """
channels:
  - {name: a, type: webhook, url: 'https://example.org/', secret: 'whsec_CANARY'}
  - {name: b, type: slack, url: 'https://hooks.slack.com/services/CANARY'}
  - {name: c, type: email, to: [a@example.org], smtp: {password: 'CANARY'}}
llm: {api_key: 'CANARY'}
"""


def test_c14_a_clear_secret_in_a_file_for_all_eyes_is_a_warning_without_the_secret(machine, caplog):
    path = machine.write(SECRETS)
    manager = machine.manager()
    manager.load_config()
    assert manager.errors == []
    assert not any("secrets" in warning for warning in manager.warnings)
    os.chmod(path, 0o644)
    manager = machine.manager()
    config = manager.load_config()
    (warning,) = [warning for warning in manager.warnings if "secrets" in warning]
    for key in ("channels.0.secret", "channels.1.url", "channels.2.smtp.password", "llm.api_key"):
        assert key in warning
    assert f"chmod 600 {path}" in warning
    assert "CANARY" not in warning + caplog.text + repr(config) + str(config)


def test_c14_references_are_no_secrets(machine):
    path = machine.write("channels:\n  - {name: a, type: webhook, url: 'https://example.org/', secret: 'env:HOOK'}\n")
    os.chmod(path, 0o644)
    manager = machine.manager()
    manager.load_config()
    assert manager.errors == []
    assert not any("secrets" in warning for warning in manager.warnings)


@pytest.mark.parametrize("value", ["CANARY\\x", "5", "[CANARY]", "'env:CANARY-X'", "'file:CANARY'", "{a: CANARY}"])
def test_c14_an_error_about_a_secret_does_not_show_it(machine, value):
    text = f"channels:\n  - {{name: a, type: slack, url: {value}}}\n"
    machine.write(text)
    error = machine.error()
    assert error.key.startswith("channels.0.url")
    assert "CANARY" not in str(error)


def test_c15_a_hundred_reloads_half_of_them_bad_change_only_what_the_good_ones_say(machine):
    machine.write("processing_batch_size: 1\n")
    manager = machine.manager()
    manager.load_config()
    for n in range(2, 102):
        before = manager.config
        bad = n % 2
        machine.write(f"processing_batch_size: {n}\n" + ("nonsense: [\n" if bad else ""))
        assert manager.poll() is not bool(bad)
        assert manager.config == before if bad else manager.config.processing_batch_size == n
        assert bool(manager.errors) == bool(bad)
