"""Commands about rules: run them over a file, check them, try their samples."""

from __future__ import annotations

import hashlib
import itertools
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from threatlens.cli_files import (
    check_format,
    check_zone,
    file_problem,
    open_records,
    own_registry,
    reader_has_enough,
)
from threatlens.cli_session import current_settings

if TYPE_CHECKING:
    from threatlens.detectors import RuleSet
    from threatlens.event import Decoded, RuleMatch

_BATCH = 500  # lines
_CACHED_FROM = 50  # files: fewer are compiled as quickly as a cache is kept


@click.command()
@click.option("--rules", "folder", required=True, metavar="DIR|builtin", help="A folder of Sigma rules.")
@click.option("--format", "log_format", default="auto", show_default=True, help="A decoder's name.")
@click.option("--year", type=click.IntRange(1970, 2100), help="Year of timestamps that carry none.")
@click.option("--tz", default="UTC", show_default=True, help="Time zone of timestamps that carry none.")
@click.option("--lists", type=click.Path(exists=True, file_okay=False), help="A folder of lists that rules expand.")
@click.option("--threats", type=click.Path(exists=True, file_okay=False), help="A folder of lists of what is bad.")
@click.option("--geo", multiple=True, help="A file in MaxMind's format: countries, cities or networks.")
@click.argument("file")
def detect(
    folder: str,
    log_format: str,
    year: int | None,
    tz: str,
    lists: str | None,
    threats: str | None,
    geo: tuple[str, ...],
    file: str,
) -> None:
    """Run rules and correlations over FILE (log lines, JSON lines, .evtx, .gz, or - for standard input).

    Prints one JSON object per detection; stores nothing.
    """
    from threatlens.decoders import SourceDecoder
    from threatlens.decoders.records import to_json
    from threatlens.detectors import DetectionEngine, load_tables
    from threatlens.detectors.geo import Geo
    from threatlens.detectors.lists import load_lists
    from threatlens.detectors.threats import ThreatLists

    registry = own_registry(current_settings())
    check_format(log_format, registry)
    check_zone(tz)
    engine = DetectionEngine(
        _load(folder),
        load_tables(),
        lists=load_lists(lists) if lists else None,
        threats=ThreatLists(load_lists(threats)) if threats else None,
        enrich=Geo(geo).enrich if geo else None,
        digest_above=sys.maxsize,
    )
    for problem in engine.problems:
        if problem.broken:
            click.echo(f"{problem}", err=True)
    decoder = SourceDecoder(format=log_format, timezone=tz, year=year, registry=registry)
    out = sys.stdout.buffer
    read_at_s = time.time()
    try:
        with open_records(file) as records:
            lines = _lines(records)
            while batch := list(itertools.islice(lines, _BATCH)):
                decoded = [decoder.decode(line, read_at_s) for line in batch]
                events = [(one, _time_us(one, read_at_s)) for one in decoded]
                for match in engine.detect(events).matches:
                    out.write(to_json(_as_record(match, batch, decoded)))
            for match in engine.finish().matches:
                out.write(to_json(_as_record(match, (), ())))
        out.flush()
    except BrokenPipeError:
        reader_has_enough()
    except (OSError, EOFError) as error:
        raise file_problem(file, error) from error


def _time_us(decoded: Decoded, read_at_s: float) -> int:
    return int(read_at_s * 1_000_000) if decoded.timestamp_us is None else decoded.timestamp_us


def _lines(records: Iterable[bytes]) -> Iterator[str]:
    """The records of a file as text, without blank ones."""
    for raw in records:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if line and not line.isspace():
            yield line


def _as_record(match: RuleMatch, lines: Sequence[str], decoded: Sequence[Decoded]) -> dict[str, Any]:
    """A detection as it is printed."""
    from threatlens.event import rfc3339

    techniques = [tag[len("attack.") :].upper() for tag in match.tags if tag[:8] == "attack.t" and tag[8:9].isdigit()]
    record: dict[str, Any] = {
        "@timestamp": rfc3339(match.timestamp_us),
        "rule.id": match.rule_id,
        "rule.name": match.rule_name,
        "rule.level": match.level,
        "severity": match.severity,
        "threatlens.kind": match.kind,
        "threatlens.count": match.count,
        "event.start": rfc3339(match.first_us),
        "threat.technique.id": techniques,
        "tags": match.tags,
    }
    for name, value in (*match.group, ("source.ip", match.source_ip), ("user.name", match.user_name),
                        ("host.name", match.host_name)):  # fmt: skip
        if value is not None:
            record.setdefault(name, value)
    if match.again:
        record["threatlens.again"] = True
    if lines and match.positions:
        at = match.positions[-1]
        record["log.format"] = decoded[at].format
        record["message"] = decoded[at].message
        record["event.original"] = lines[at]
    return record


def _load(folder: str) -> RuleSet:
    """The rules of a folder or of "builtin", by way of a cache in the data folder if they are many."""
    from threatlens.detectors import BUILTIN, load_rules
    from threatlens.detectors.loading import rule_files

    root = BUILTIN if folder == "builtin" else folder
    if not os.path.exists(root):
        raise click.UsageError(f"there is no folder {root!r}")
    cache = None
    data = current_settings().data
    if os.path.isdir(data) and len(rule_files(root)) >= _CACHED_FROM:
        name = hashlib.sha256(os.path.realpath(root).encode()).hexdigest()[:16]
        cache = os.path.join(data, "cache", f"rules-{name}.json")
    return load_rules([root], cache=cache)


@click.group()
def rules() -> None:
    """Sigma rules: check them, try their samples."""


@rules.command("check")
@click.option("--lists", type=click.Path(exists=True, file_okay=False), help="A folder of lists that rules expand.")
@click.argument("folder", metavar="DIR")
def check(lists: str | None, folder: str) -> None:
    """Load every rule of DIR (a folder, a file or "builtin"): how many can run, and why others cannot.

    Exits 1 if a file is broken.
    """
    from threatlens.detectors import load_tables
    from threatlens.detectors.fields import FieldMap
    from threatlens.detectors.linking import link
    from threatlens.detectors.lists import load_lists

    found = _load(folder)
    links, problems = link(found, load_lists(lists) if lists else {}, FieldMap(load_tables().fields))
    filters = sum(rule.kind == "filter" for rule in found.rules)
    for problem in sorted(problems, key=lambda one: (one.path, one.line)):
        click.echo(f"{'broken' if problem.broken else 'unsupported'}: {problem}")
    broken = sum(problem.broken for problem in problems)
    click.echo(f"{len(links) + filters} rules loaded, {len(problems) - broken} unsupported, {broken} broken")
    if broken:
        sys.exit(1)


@rules.command("test")
@click.option("--lists", type=click.Path(exists=True, file_okay=False), help="A folder of lists that rules expand.")
@click.argument("folder", metavar="DIR|FILE")
def test(lists: str | None, folder: str) -> None:
    """Run the samples of every rule (threatlens.matching and threatlens.decoys) and say which do not hold.

    Exits 1 if one does not, or if a file is broken.
    """
    from threatlens.decoders import SourceDecoder
    from threatlens.detectors import BUILTIN, load_tables
    from threatlens.detectors.lists import load_lists
    from threatlens.detectors.samples import read_samples, try_samples

    found = _load(folder)
    read_at_s = time.time()

    def decode(lines: Iterable[str]) -> list[tuple[Decoded, int]]:
        decoder = SourceDecoder()
        decoded = [decoder.decode(line, read_at_s) for line in lines]
        return [(one, _time_us(one, read_at_s)) for one in decoded]

    samples = read_samples(BUILTIN if folder == "builtin" else folder)
    failures = try_samples(found, samples, load_tables(), decode, load_lists(lists) if lists else {})
    broken = [problem for problem in found.problems if problem.broken]
    for line in (*(str(problem) for problem in broken), *failures):
        click.echo(line)
    count = sum(len(sample.matching) + len(sample.decoys) for sample in samples)
    click.echo(f"{len(samples)} rules with samples, {count} samples, {len(failures)} do not hold")
    if failures or broken:
        sys.exit(1)


COMMANDS = (detect, rules)
