"""Commands about the analysis: the red team, and how severities are distributed over a file."""

from __future__ import annotations

import itertools
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import click

from threatlens.cli_files import file_problem, open_records

if TYPE_CHECKING:
    from threatlens.event import Decoded, RuleMatch

_BATCH = 2_000


@click.command()
@click.option("--verbose", is_flag=True, help="Print every injection that does not pass.")
def redteam(verbose: bool) -> None:
    """Put text that talks to language models into log lines, and answer with a model that obeys it.

    Prints how many pass: nothing of the evil answer reaches a reader, no secret leaves, no severity changes. Exits 1
    where one does not.
    """
    from threatlens.redteam import CARRIERS, injections, run

    rows = injections()
    results = run(rows)
    for kind, group in itertools.groupby(sorted(results, key=lambda one: one.kind), key=lambda one: one.kind):
        of_kind = list(group)
        passed, labelled = sum(not one.leaks for one in of_kind), sum(one.labelled for one in of_kind)
        click.echo(f"{kind:10} {passed:4} of {len(of_kind):4} pass, {labelled:4} are labelled as instructions")
    failed = [one for one in results if one.leaks]
    click.echo(f"{len(rows)} injections in {len(CARRIERS)} fields: {len(results) - len(failed)} of {len(results)} pass")
    if verbose:
        for one in failed:
            click.echo(f"{one.carrier}: {one.text!r}: {'; '.join(one.leaks)}")
    if failed:
        sys.exit(1)


@click.command()
@click.argument("files", nargs=-1, required=True)
def severities(files: tuple[str, ...]) -> None:
    """How the severities of the events of FILES are distributed, with the shipped rules, as a table. Stores nothing."""
    from threatlens.analyzers.severity import of_event, raised, total
    from threatlens.decoders import SourceDecoder
    from threatlens.detectors import BUILTIN, DetectionEngine, load_rules, load_tables

    rules, tables = load_rules([BUILTIN]), load_tables()
    counted: Counter[tuple[str, int]] = Counter()
    for file in files:
        engine, decoder, now = DetectionEngine(rules, tables), SourceDecoder(), time.time()
        try:
            with open_records(file) as records:
                lines = (raw.decode("utf-8", "replace") for raw in records if raw.strip())
                while batch := list(itertools.islice(lines, _BATCH)):
                    decoded = [decoder.decode(line.rstrip("\r\n"), now) for line in batch]
                    events = [
                        (one, int(now * 1e6) if one.timestamp_us is None else one.timestamp_us) for one in decoded
                    ]
                    found = _by_place(engine.detect(events).matches)
                    for place, one in enumerate(decoded):
                        factors = of_event(one, [raised(match) for match in found.get(place, ())])
                        counted[_kind(one), total(factors)] += 1
        except (OSError, EOFError) as error:
            raise file_problem(file, error) from error
    click.echo(f"| events | number | {' | '.join(map(str, range(1, 11)))} |")
    click.echo(f"|---|---|{'---|' * 10}")
    kinds = Counter[str]()
    for (kind, _), number in counted.items():
        kinds[kind] += number
    for kind, number in [*kinds.most_common(), ("all", sum(kinds.values()))]:
        of_kind = [
            sum(n for (each, severity), n in counted.items() if severity == column and kind in (each, "all"))
            for column in range(1, 11)
        ]
        click.echo(f"| {kind} | {number} | {' | '.join(str(n or '') for n in of_kind)} |")


def _by_place(matches: tuple[RuleMatch, ...]) -> dict[int, list[RuleMatch]]:
    """Place in the batch -> the matches that the event there completed."""
    found: dict[int, list[RuleMatch]] = {}
    for match in matches:
        for place in match.positions if match.kind == "rule" else match.positions[-1:]:
            if place >= 0:
                found.setdefault(place, []).append(match)
    return found


def _kind(decoded: Decoded) -> str:
    from threatlens.analyzers.heuristic import category

    outcome = decoded.fields.get("event.outcome")
    return f"{category(decoded)}{f', {outcome}' if isinstance(outcome, str) else ''}"


COMMANDS = (redteam, severities)
