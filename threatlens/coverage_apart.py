"""Trying the samples in a process of its own, of low priority: nothing of it stays in ours, and nobody waits for it.

That process reads the same files as we did: the compiled rules out of the same cache, the lists, the folder of own
decoders. Whoever asks looks afterwards whether the files are still those that are loaded.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from threatlens.coverage import Coverage, Failure, try_all
from threatlens.detectors import load_rules
from threatlens.own_decoders import OwnDecoders
from threatlens.rule_library import Loaded
from threatlens.settings import PROJECT

log = logging.getLogger(__name__)

PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from threatlens.coverage_apart import main; main()"
NICE = 19
#: Seconds that it may take: a slow machine that has other things to do needs some.
MOST_S = 600.0
LOOK_S = 0.2


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be tried."""

    roots: tuple[str, ...]
    cache: str
    off: tuple[str, ...]
    lists: Mapping[str, tuple[str, ...]]
    decoders: str  # the folder of own decoders
    samples: str


def try_apart(order: Order, stopped: Callable[[float], bool]) -> Coverage | None:
    """What the samples gave; None: it was told to stop, or the process came to nothing, which is logged."""
    command = [sys.executable, "-I", "-B", "-c", PROGRAM, PROJECT]
    with tempfile.TemporaryFile("w+") as given, tempfile.TemporaryFile("w+") as found:
        json.dump(asdict(order), given)
        given.seek(0)
        process = subprocess.Popen(  # noqa: S603  (our own module; nothing that others wrote is in the command)
            command, stdin=given, stdout=found, cwd="/"
        )
        try:
            waited_s = 0.0
            while process.poll() is None:
                if stopped(LOOK_S):
                    return None
                waited_s += LOOK_S
                if waited_s > MOST_S:
                    log.warning("trying the samples of rules and decoders took more than %d seconds", MOST_S)
                    return None
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            log.warning("the process that tries the samples of rules and decoders ended with %d", process.returncode)
            return None
        found.seek(0)
        return _read(json.load(found))


def _read(document: dict[str, Any]) -> Coverage:
    return Coverage(
        **{
            **document,
            "failing": tuple(Failure(**each) for each in document["failing"]),
            "decoders_failing": tuple(Failure(**each) for each in document["decoders_failing"]),
            "needs": {rule_id: tuple(names) for rule_id, names in document["needs"].items()},
        }
    )


def main() -> None:
    """Read an order from standard input, try the samples, write what they gave to standard output."""
    os.nice(NICE)
    order = json.load(sys.stdin)
    rules = load_rules(order["roots"], cache=order["cache"])
    lists = {name: tuple(entries) for name, entries in order["lists"].items()}
    loaded = Loaded(rules.rules, rules.problems, frozenset(order["off"]), lists, ())
    found = try_all(loaded, order["roots"], OwnDecoders(order["decoders"]).registry(), samples_folder=order["samples"])
    json.dump(asdict(found), sys.stdout)
