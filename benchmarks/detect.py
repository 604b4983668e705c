"""What rules cost per event: shipped ones, and any folder of Sigma rules.

Run: python -m benchmarks.detect [--rules DIR] [--events 20000] [--spoofed 1000000]. Times are of the processor, not of
the clock on the wall; each row's reference is the same rules without the prefilter, in the same run. With rules given,
the reference of whole JSON lines is what Zircolite does with them: see sql_rules.py.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import sql_rules
from benchmarks.decode import READ_AT_S, json_line, nginx, sshd
from benchmarks.product import ROOT
from benchmarks.table import Table, against, times
from threatlens.decoders import SourceDecoder
from threatlens.detectors import BUILTIN, DetectionEngine, RuleSet, load_rules, load_tables
from threatlens.event import Decoded

MEMORY_TARGET_MB = 150  # that the engine adds to its process

_PROGRAMS = (
    ("C:\\Windows\\System32\\svchost.exe", "C:\\Windows\\System32\\svchost.exe -k netsvcs -p -s Schedule"),
    ("C:\\Program Files\\Example\\Browser\\browser.exe", '"browser.exe" --type=renderer --lang=de --handle=1718'),
    ("C:\\Windows\\System32\\cmd.exe", 'C:\\Windows\\system32\\cmd.exe /c dir "C:\\Users\\anna\\Documents"'),
    (
        "C:\\Windows\\System32\\WindowsPowerShell\\v1.0\\powershell.exe",
        "powershell.exe -NoProfile -File C:\\tools\\a.ps1",
    ),
    ("C:\\Program Files\\Example\\Office\\writer.exe", '"writer.exe" /n "C:\\Users\\ben\\Documents\\plan.docx"'),
    ("C:\\Windows\\System32\\conhost.exe", "\\??\\C:\\Windows\\system32\\conhost.exe 0xffffffff -ForceV1"),
    ("C:\\Program Files\\Git\\cmd\\git.exe", "git fetch --all --prune"),
)


def windows(dice: random.Random, number: int) -> str:
    """Processes starting on an office machine, as Sysmon logs them."""
    image, command = dice.choice(_PROGRAMS)
    parent, parent_command = dice.choice(_PROGRAMS)
    system = {
        "Provider": {"#attributes": {"Name": "Microsoft-Windows-Sysmon"}}, "EventID": 1, "Version": 5, "Level": 4,
        "TimeCreated": {"#attributes": {"SystemTime": "2026-11-23T06:51:07.092051Z"}}, "EventRecordID": number,
        "Channel": "Microsoft-Windows-Sysmon/Operational", "Computer": f"pc{dice.randrange(50)}.example.org",
    }  # fmt: skip
    data = {
        "RuleName": "-", "UtcTime": "2026-11-23 06:51:07.079", "ProcessGuid": f"0197231E-C424-69E1-C922-{number:012x}",
        "ProcessId": dice.randrange(20_000), "Image": image, "FileVersion": "10.0.19041.1", "Description": "Program",
        "Product": "Example", "Company": "Example Corporation", "OriginalFileName": image.rpartition("\\")[2],
        "CommandLine": command, "CurrentDirectory": "C:\\Windows\\system32\\", "User": f"EXAMPLE\\user{number % 40}",
        "IntegrityLevel": "Medium", "Hashes": f"MD5={number:032x},SHA256={number:064x},IMPHASH={number:032x}",
        "ParentImage": parent, "ParentCommandLine": parent_command, "ParentUser": "EXAMPLE\\user1",
    }  # fmt: skip
    return json.dumps({"Event": {"System": system, "EventData": data}})


KINDS = {"sshd": sshd, "nginx": nginx, "JSON": json_line, "Windows processes": windows}


def events_of(kind: str, count: int, seed: int = 1) -> list[tuple[Decoded, int]]:
    """Decoded events of one kind with their times."""
    dice, decoder = random.Random(seed), SourceDecoder()
    decoded = [decoder.decode(KINDS[kind](dice, number), READ_AT_S) for number in range(count)]
    return [(one, one.timestamp_us or 0) for one in decoded]


def seconds(rules: RuleSet, events: list[tuple[Decoded, int]], *, prefilter: bool) -> float:
    """Processor time that the events take, after a batch to warm up."""
    engine = DetectionEngine(rules, load_tables(), prefilter=prefilter)
    engine.detect(events[:500])
    gc.collect()
    started = time.process_time()
    for at in range(0, len(events), 500):
        engine.detect(events[at : at + 500])
        engine.changes()
    return time.process_time() - started


def per_logsource(rules: RuleSet, name: str, count: int) -> None:
    table = Table(f"{len(rules.rules)} rules ({name})", "events", "rules", "events/s", "us/event", "x unfiltered")
    for kind in KINDS:
        events = events_of(kind, count)
        asked = DetectionEngine(rules, load_tables()).candidates(events[0][0], "")[1]
        quick = seconds(rules, events, prefilter=True)
        few = events[: max(500, count // 10)]
        slow = seconds(rules, few, prefilter=False) / len(few) * len(events)
        table.add(
            kind, f"{asked:,}", f"{len(events) / quick:,.0f}", f"{quick / len(events) * 1e6:,.1f}", times(slow, quick)
        )
    table.show()


def against_sql(rules: RuleSet, count: int) -> None:
    """Processes starting on Windows, as JSON lines: decoded and asked about, against the same as tables and queries."""
    dice = random.Random(1)
    lines = [windows(dice, number) for number in range(count)]
    engine, decoder = DetectionEngine(rules, load_tables()), SourceDecoder()
    decoded = [decoder.decode(line, READ_AT_S) for line in lines[:500]]
    engine.detect([(one, one.timestamp_us or 0) for one in decoded])
    gc.collect()
    started = time.process_time()
    for at in range(0, count, 500):
        decoded = [decoder.decode(line, READ_AT_S) for line in lines[at : at + 500]]
        engine.detect([(one, one.timestamp_us or 0) for one in decoded])
        engine.changes()
    ours = time.process_time() - started
    few = lines[: max(500, count // 4)]
    asked, matches, seconds_of_sql = sql_rules.run(engine, few)
    sql = seconds_of_sql / len(few) * count
    table = Table("JSON lines of Windows processes, whole", "way", "rules", "lines/s", "matches", "x queries")
    table.add("decoded, prefilter", f"{len(rules.rules):,}", f"{count / ours:,.0f}", "", times(sql, ours))
    table.add("tables and queries (Zircolite's way)", f"{asked:,}", f"{count / sql:,.0f}", f"{matches:,}",
              times(sql, sql))  # fmt: skip
    table.show()


def apart(function: str, *arguments: object) -> str:
    """Call a function of this module in a process of its own, whose memory is its alone; what it printed."""
    call = f"from benchmarks import detect; detect.{function}(*{arguments!r})"
    return subprocess.run([sys.executable, "-c", call], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


def rss_mb() -> float:
    """Memory of this process, without what is only waiting to be collected."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def loading(folders: list[str], cache: str, count: int) -> None:
    """Load the rules and ask them about events of every kind; prints seconds and megabytes."""
    for kind in KINDS:  # what decoding keeps is none of the engine's
        events_of(kind, 20)
    before_mb = rss_mb()
    started = time.perf_counter()
    engine = DetectionEngine(load_rules(folders, cache=cache), load_tables())
    ready_s = time.perf_counter() - started
    loaded_mb = rss_mb()
    started = time.perf_counter()
    for kind in KINDS:
        engine.detect(events_of(kind, 1))
    first_s = time.perf_counter() - started
    for kind in KINDS:
        for seed in range(0, count, 500):
            engine.detect(events_of(kind, min(500, count), seed))
            engine.changes()
    print(json.dumps([ready_s, first_s, before_mb, loaded_mb - before_mb, rss_mb() - before_mb]))


def start(sets: dict[str, list[str]], count: int) -> None:
    """Processes that load rules, first without a cache, then with one, and what their memory grows by."""
    table = Table(
        "Loading, and the memory of the engine", "rules", "cache", "ready after", "first events after", "grown by",
        f"and after {count * len(KINDS):,} events", f"target {MEMORY_TARGET_MB} MB",
    )  # fmt: skip
    for name, folders in sets.items():
        with tempfile.TemporaryDirectory() as folder:
            for cache in ("none", "there"):
                printed = apart("loading", folders, os.path.join(folder, "cache", "rules.json"), count)
                ready_s, first_s, _, loaded_mb, used_mb = json.loads(printed)
                table.add(
                    name, cache, f"{ready_s:,.2f} s", f"{ready_s + first_s:,.2f} s", f"{loaded_mb:,.0f} MB",
                    f"{used_mb:,.0f} MB", against(used_mb, MEMORY_TARGET_MB),
                )  # fmt: skip
    table.show()


def spoofed(count: int) -> None:
    """Failed logins from ever new addresses, a real attack among them."""
    before_mb = rss_mb()
    engine = DetectionEngine(load_rules([BUILTIN]), load_tables())
    fields = {"event.category": "authentication", "event.action": "ssh_login", "event.outcome": "failure"}
    table = Table("Spoofed addresses", "addresses", "memory grown by", "groups", "attacker found", "us/event")
    found, started = 0, time.process_time()
    step = max(200, count // 5)
    batch = []
    for number in range(count):
        address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        batch.append(_failed({**fields, "source.ip": address, "user.name": "root"}, number))
        if number % 200 == 199:
            batch.append(_failed({**fields, "source.ip": "203.0.113.9", "user.name": "root"}, number))
            found += sum(match.source_ip == "203.0.113.9" for match in engine.detect(batch).matches)
            engine.changes()
            batch = []
        if number % step == step - 1:
            taken = time.process_time() - started
            grown_mb = rss_mb() - before_mb
            table.add(
                f"{number + 1:,}", f"{grown_mb:.0f} MB", f"{engine.group_count:,}", f"{found} times",
                f"{taken / (number + 1) * 1e6:.1f}",
            )  # fmt: skip
    table.show()


def _failed(fields: dict, number: int) -> tuple[Decoded, int]:
    moment = int(READ_AT_S * 1e6) + number * 1_000
    return Decoded("sshd", moment, "Failed password for root", {**fields, "process.name": "sshd"}), moment


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rules", action="append", help="folders of Sigma rules, besides the shipped ones")
    options.add_argument("--events", type=int, default=20_000)
    options.add_argument("--spoofed", type=int, default=1_000_000)
    arguments = options.parse_args()
    folders = arguments.rules or []
    per_logsource(load_rules([BUILTIN]), "shipped", arguments.events)
    if folders:
        given = load_rules(folders)
        per_logsource(given, "given", arguments.events)
        against_sql(given, arguments.events)
    start({"shipped": [BUILTIN]} | ({"shipped and given": [BUILTIN, *folders]} if folders else {}), arguments.events)
    print(apart("spoofed", arguments.spoofed), end="")


if __name__ == "__main__":
    main()
