"""Where one batch ends and the next begins is chance: it decides nothing about matches, incidents and severities."""

from __future__ import annotations

import random

from test_detection import Bench

from threatlens import rulebook
from threatlens.detectors import BUILTIN, load_rules
from threatlens.settings import load_settings, prepare_data_folder
from threatlens.store import EventStore
from threatlens.store_database import connect
from threatlens.store_schema import migrate

QUESTIONS = (
    "SELECT rule_id, kind, group_by, first_us, timestamp, n, event_id, suppressed, incident_id FROM detections",
    "SELECT id, title, severity, outcome, subject_kind, subject, first_us, last_us, n, previous_id FROM incidents",
    "SELECT incident_id, rule_id, outcome, n, events, first_us, last_us, last_event_id FROM incident_members",
    "SELECT incident_id, kind, value, n, taken FROM incident_entities",
    "SELECT id, severity FROM events",
)


def attacks(seed: int, n: int) -> list[bytes]:
    """Lines that shipped rules match, those of one sample in their order, samples mixed and some of them again."""
    samples = [sample for _, document in rulebook.documents() if "threatlens" in document
               for sample in document["threatlens"]["matching"]
               if "type=SYSCALL" not in str(sample)]  # fmt: skip  # which whoever reads the file joins, before batches
    dice, lines, open_samples = random.Random(seed), [], []
    while len(lines) < n:
        if len(open_samples) < 8:
            sample = dice.choice(samples)
            open_samples.append([sample] if isinstance(sample, str) else list(sample))
        chosen = dice.choice(open_samples)
        lines.append(chosen.pop(0).replace("\n", " ").encode() + b"\n")
        if not chosen:
            open_samples.remove(chosen)
    return lines


def test_where_a_batch_ends_decides_nothing(tmp_path):
    rules, lines = load_rules([BUILTIN]), attacks(seed=4, n=400)

    def answers(name: str, sizes: tuple[int, ...]) -> list[list[tuple[object, ...]]]:
        settings = load_settings({"THREATLENS_DATA": str(tmp_path / name)})
        prepare_data_folder(settings)
        migrate(settings)
        bench, at, dice = Bench(EventStore(connect(settings.database_url)), rules), 0, random.Random(1)
        while at < len(lines):
            size = dice.choice(sizes)
            bench.process(*lines[at : at + size])
            at += size
        with bench.store.database.reading() as connection:
            return [sorted(map(tuple, connection.exec_driver_sql(each)), key=repr) for each in QUESTIONS]

    small, large = answers("small", (1, 2, 5)), answers("large", (40, 300))
    assert len(small[0]) > 100
    assert len(small[1]) > 5
    for one, other in zip(small, large, strict=True):
        assert set(one) ^ set(other) == set()
