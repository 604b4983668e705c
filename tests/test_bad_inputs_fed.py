"""Hostile lines, files and configurations (bad_inputs.py) go through the real monitor, processor, store and manager.

L: lines, F: files, C: configuration. One run feeds them all; test_bad_inputs.py is the index of what is shown elsewhere
(pages, exports, messages, true sizes).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from bad_inputs import (
    CONFIGS,
    FILES,
    LINES,
    MAX_LINE_BYTES,
    MAX_UNPACKED_BYTES,
    Config,
    File,
    Line,
    row_of,
)
from machines import machine_in
from test_bad_inputs import ROWS

from threatlens.broadcaster import EventBroadcaster
from threatlens.event import Event, EventFilter, SourceStatus
from threatlens.ingestion_queue import RealtimeIngestionQueue
from threatlens.processor import QueueProcessor
from threatlens.settings import load_settings, prepare_data_folder
from threatlens.sources.base import LogSourceConfig
from threatlens.sources.file import LogFileMonitor
from threatlens.store import EventStore
from threatlens.store_database import connect
from threatlens.store_schema import migrate


@dataclass
class Run:
    """What came of everything."""

    events: dict[str, list[Event]]
    statuses: dict[str, SourceStatus]
    refused: list[frozenset[int]]
    logs: Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Every case in a folder and source of its own, all followed by one monitor, all stored by one processor."""
    base = Path(tmp_path_factory.mktemp("bad").resolve())
    settings = load_settings({"THREATLENS_DATA": str(base / "data")})
    prepare_data_folder(settings)
    migrate(settings)
    engine = connect(settings.database_url)
    store, queue, refused = EventStore(engine), RealtimeIngestionQueue(max_lines=1 << 30, max_bytes=1 << 30), []
    processor = QueueProcessor(queue, store, EventBroadcaster(), on_refused=refused.append)
    monitor = LogFileMonitor(  # whose clock stands still: what is half a line stays one
        emit=queue.put, book=store, clock=lambda: 0.0, forbidden=(settings.data,), use_inotify=False,
        max_line_bytes=MAX_LINE_BYTES, max_unpacked_bytes=MAX_UNPACKED_BYTES,
    )  # fmt: skip
    logs = base / "logs"
    folders = {case.name: logs / case.name.replace("/", "-") for case in (*LINES, *FILES)}
    configs = []
    for case in (*LINES, *FILES):
        folder = folders[case.name]
        folder.mkdir(parents=True)
        path, roots, encoding = str(folder / "app.log"), (str(folder),), "auto"
        if isinstance(case, File):
            path, roots = str(folder / case.path), case.roots or roots
        else:
            encoding = case.encoding
        number = store.put_api_source(re.sub(r"[^ -~]", "?", case.name), "auto")
        configs.append(LogSourceConfig(number, case.name, path, encoding=encoding, roots=roots))
    processor.set_sources(configs, {})
    monitor.set_sources(configs)
    for step in range(max(len(case.pieces if isinstance(case, Line) else case.steps) for case in (*LINES, *FILES)) + 2):
        for case in LINES:
            if step < len(case.pieces):
                with (folders[case.name] / "app.log").open("ab") as file:
                    file.write(case.pieces[step])
        for case in FILES:
            if step < len(case.steps):
                case.steps[step](folders[case.name])
        monitor.scan()
        while entries := queue.take(2_000, timeout_s=0):
            processor.process(entries, lambda _: False)
    statuses = {status.source_name: status for status in monitor.statuses()}
    events: dict[str, list[Event]] = {config.source_name: [] for config in configs}
    names = {re.sub(r"[^ -~]", "?", name): name for name in events}
    last = 0
    while found := store.page(EventFilter(), after=last, limit=500):
        last = found[-1].id
        for event in found:
            events[names[event.source]].append(event)
    monitor.close()
    engine.dispose()
    return Run(events, statuses, refused, logs)


@pytest.mark.parametrize("case", LINES, ids=lambda case: case.name)
def test_a_hostile_line_becomes_what_it_is(run: Run, case: Line) -> None:
    events = run.events[case.name]
    wanted = case.raws if case.raws is not None else (case.pieces[0].decode()[:-1],)
    assert tuple(event.raw for event in events) == wanted
    for name, value in case.fields.items():
        assert events[-1].fields.get(name) == value, name
    assert set(case.flags) <= {flag for event in events[-1:] for flag in event.flag_names}
    assert not case.format or events[-1].format == case.format
    assert not case.warning or any(case.warning in warning for warning in run.statuses[case.name].warnings)


@pytest.mark.parametrize("case", FILES, ids=lambda case: case.name)
def test_a_hostile_file_gives_its_lines_once_or_says_why_not(run: Run, case: File) -> None:
    got, wanted = Counter(event.raw.encode() for event in run.events[case.name]), Counter(case.raws)
    assert got <= wanted if case.at_most else got == wanted
    status = run.statuses[case.name]
    assert (status.state, case.reason in status.reason) == (case.state, True), status.reason
    assert not case.warning or any(re.search(case.warning, warning) for warning in status.warnings)
    assert status.reason.isprintable()


def test_no_batch_of_theirs_was_refused(run: Run) -> None:
    assert run.refused == []


@pytest.mark.parametrize("case", CONFIGS, ids=lambda case: case.name)
def test_a_hostile_configuration_is_an_error_that_says_what(tmp_path: Path, case: Config) -> None:
    machine = machine_in(tmp_path)
    machine.write(case.text)
    manager = machine.manager()
    manager.load_config()
    assert bool(manager.errors) == bool(case.error)
    assert not case.error or re.search(case.error, str(manager.errors[0])), str(manager.errors[0])
    assert not case.warning or any(case.warning in warning for warning in manager.warnings)
    assert sorted(path.name for path in machine.data.iterdir()) == ["threatlens.yaml"]


def test_every_row_is_fed_or_has_tests_of_its_own() -> None:
    fed = {row_of(case.name) for case in (*LINES, *FILES, *CONFIGS)}
    wanted = {f"{kind}{n:02}" for kind, last in (("L", 42), ("F", 31), ("C", 15)) for n in range(1, last + 1)}
    assert fed | ROWS.keys() >= wanted
    assert fed <= wanted
