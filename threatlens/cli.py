"""python -m threatlens COMMAND: what a person or a script does from a shell.

Errors are one sentence on stderr; exit codes: 0 done, 1 the work found a problem that it reports, 2 wrong usage.
Commands import what they need themselves: `decode` starts in a tenth of a second.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from threatlens import __version__, cli_analysis, cli_detection, cli_upkeep
from threatlens.cli_accounts import make_groups
from threatlens.cli_files import (
    check_format,
    check_zone,
    digest_of,
    file_problem,
    is_of_records,
    open_records,
    own_registry,
    reader_has_enough,
)
from threatlens.cli_session import current_settings as _settings
from threatlens.cli_session import services as _services
from threatlens.errors import DataFolderError, ThreatLensError

if TYPE_CHECKING:
    from threatlens.settings import Settings
    from threatlens.web.context import Services


class _Group(click.Group):
    """Turns our own errors into one sentence and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ThreatLensError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise
            raise click.ClickException(f"the output cannot be written: {error.strerror}") from error


@click.group("threatlens", cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="threatlens")
def main() -> None:
    """ThreatLens follows the logs of a machine and shows what needs attention."""


# -- serve


@main.command()
@click.option("--host", help="Address to listen on.  [default: HOST or 127.0.0.1]")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on.  [default: PORT or 8000]")
@click.option("--threads", type=click.IntRange(8, 6000), help="Threads of the web server; each open page takes one.")
@click.option("--demo", is_flag=True, help="Add a source that replays an attack story, live.")
def serve(host: str | None, port: int | None, threads: int | None, demo: bool) -> None:
    """Follow the logs and serve the pages, until SIGTERM or Ctrl-C."""
    from threatlens.settings import PROJECT, prepare_data_folder
    from threatlens.store_schema import has_admin, migrate, no_admin_words

    # Until gunicorn listens, Ctrl-C ends us as a kill does: an exception can be lost where Python ignores them.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    changes = {"host": host, "port": port, "threads": threads, "demo": demo or None}
    settings = dataclasses.replace(_settings(), **{key: value for key, value in changes.items() if value is not None})  # type: ignore[arg-type]
    prepare_data_folder(settings)
    migrate(settings)
    if not settings.is_loopback and not has_admin(settings):
        raise click.ClickException(no_admin_words(settings.host))
    _check_port(settings)
    environ = dict(
        os.environ,
        THREATLENS_DATA=settings.data,
        HOST=settings.host,
        PORT=str(settings.port),
        THREATLENS_THREADS=str(settings.threads),
        THREATLENS_DEMO="1" if settings.demo else "",
        MALLOC_ARENA_MAX=os.environ.get("MALLOC_ARENA_MAX", "2"),  # glibc: threads share what others have freed
    )
    arguments = ["-m", "gunicorn", "-c", os.path.join(PROJECT, "gunicorn.conf.py"), "--chdir", PROJECT, "wsgi:app"]
    os.execve(sys.executable, [sys.executable, *arguments], environ)  # noqa: S606 - our own interpreter


def _check_port(settings: Settings) -> None:
    if settings.socket_path:
        return  # gunicorn replaces a socket that nobody listens on
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            msg = f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; choose another port with --port"
            raise click.ClickException(msg) from error


@main.command()
def migrate() -> None:
    """Bring the database to this version's schema."""
    from threatlens.settings import prepare_data_folder
    from threatlens.store_schema import HEAD
    from threatlens.store_schema import migrate as bring_to_head

    settings = _settings()
    prepare_data_folder(settings)
    found = bring_to_head(settings)
    if found == HEAD:
        click.echo(f"{settings.database_name} is at schema {HEAD} already")
    else:
        click.echo(f"{settings.database_name}: schema {found or 'none'} -> {HEAD}")


# -- decode, ingest


@main.command()
@click.option("--format", "log_format", default="auto", show_default=True, help="A decoder's name.")
@click.option("--year", type=click.IntRange(1970, 2100), help="Year of timestamps that carry none.")
@click.option("--tz", default="UTC", show_default=True, help="Time zone of timestamps that carry none.")
@click.option("--explain", is_flag=True, help="Say how each line found its decoder, and where its fields stand.")
@click.argument("file")
def decode(log_format: str, year: int | None, tz: str, explain: bool, file: str) -> None:
    """Decode FILE (or - for standard input) and print one JSON object per record; stores nothing."""
    from threatlens.analyzers.patterns import TemplateTree
    from threatlens.decoders.records import decode_file, to_json

    registry = own_registry(_settings())
    check_format(log_format, registry)
    check_zone(tz)
    tree = TemplateTree()
    out = sys.stdout.buffer
    try:
        with open_records(file) as stream:
            for record in decode_file(
                stream,
                format=log_format,
                year=year,
                timezone=tz,
                read_at_s=time.time(),
                template_id=lambda message: tree.find(message).id,
                why=explain,
                whole=file != "-",  # what arrives piece by piece is shown at once
                registry=registry,
            ):
                out.write(to_json(record))
        out.flush()
    except BrokenPipeError:
        reader_has_enough()
    except (OSError, EOFError) as error:
        raise file_problem(file, error) from error


@main.command()
@click.option("--source", "source_name", help="Name of the source.  [default: the file's name]")
@click.option("--format", "log_format", default="auto", show_default=True, help="A decoder's name.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
def ingest(source_name: str | None, log_format: str, files: tuple[str, ...]) -> None:
    """Run FILES through the whole pipeline into the database; a file that is stored already adds nothing."""
    check_format(log_format)
    for file in files:
        try:
            with open(file, "rb"):
                pass
        except OSError as error:
            raise file_problem(file, error) from error
    with _services() as services:
        for index, file in enumerate(files):
            name = source_name or os.path.basename(file)
            if source_name and len(files) > 1:
                name = f"{source_name}-{index + 1}"
            _ingest_one(services, os.path.realpath(file), name, log_format)


def _ingest_one(services: Services, path: str, name: str, log_format: str) -> None:
    """Follow one file to its end: with our own engine, or by the one that runs already.

    A file whose records are no lines is turned into lines in the spool, once per content.
    """
    store = services.store
    if os.path.getsize(path) == 0:
        click.echo(f"{click.format_filename(path)}: 0 lines, the file is empty")
        return
    ingestion = None
    if is_of_records(path):
        source_id = store.put_api_source(name, log_format)
        before = store.source(source_id)
        with open_records(path) as records:
            ingestion = services.ingestions.accept(
                (record.rstrip(b"\r\n") + b"\n" for record in records),
                name,
                log_format=log_format,
                idempotency_key=f"{name}:{digest_of(path)}",
            )
    else:
        source_id = store.put_cli_source(name, path, log_format)
        before = store.source(source_id)
    detections = store.detections_of_source(source_id)
    started = time.monotonic()
    services.background.start(only_sources=frozenset({source_id}))
    try:
        if ingestion is not None:
            _wait_until_ingested(services, ingestion.id)
        else:
            _wait_until_stored(services, source_id, os.path.basename(path))
    finally:
        services.background.stop()
    seconds = time.monotonic() - started
    after = store.source(source_id)
    lines, events = after.lines - before.lines, after.events - before.events
    found = store.detections_of_source(source_id) - detections
    click.echo(
        f"{click.format_filename(path)}: {lines} lines, {events} events, {after.unknown - before.unknown} unknown,"
        f" {found} detections, {lines / seconds:,.0f} lines/s"
    )


def _wait_until_ingested(services: Services, ingestion_id: str) -> None:
    while (ingestion := services.ingestions.get(ingestion_id)) is not None and ingestion.state != "done":
        if ingestion.stored >= ingestion.size:
            return
        time.sleep(0.02)


def _wait_until_stored(services: Services, source_id: int, label: str) -> None:
    """Wait for the last byte, with a progress bar on a terminal; raises ClickException when it cannot be read."""
    with click.progressbar(length=1000, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        shown = read_us = 0
        while True:
            source, progress = services.store.source(source_id), services.store.stream_progress(source_id)
            if source.state in {"no_permission", "refused", "error", "missing"}:
                raise click.ClickException(source.state_reason or source.state)
            if progress is not None:
                stored, complete, compressed = progress
                if complete and compressed:
                    read_us = read_us or time.time_ns() // 1000
                    complete = _nothing_waits(services, read_us)
                share = 1000 if complete else min(999, stored * 1000 // max(1, source.file_size))
                bar.update(share - shown)
                shown = share
                if complete:
                    return
            time.sleep(0.02)


def _nothing_waits(services: Services, since_us: int) -> bool:
    """Whether the engine said since then that all it had read is stored."""
    status = services.engine_status()
    is_new = bool(status) and status["at_us"] > since_us
    return is_new and not status["queue"]["lines"] and not status["in_work"]


# -- sources


@main.group()
def sources() -> None:
    """What is watched, and what could be."""


@sources.command("discover")
def sources_discover() -> None:
    """List the logs of this machine with a decoded sample line each, and what is missing to read them."""
    from threatlens.discovery import discover

    settings = _settings()
    with _services() as services:
        roots = services.config.load_config().allowed_roots
    _print_discovered(discover(roots, forbidden=settings.own_files, decode=_decode_line))


def _decode_line(line: str) -> Any:
    from threatlens.decoders import SourceDecoder

    return SourceDecoder().decode(line, time.time())


def _print_discovered(found: list[Any]) -> None:
    for item in found:
        click.echo(f"{visible(item.path)}  ({item.format or item.kind}, {item.size:,} bytes)")
        if item.sample:
            click.echo("    " + visible(item.sample[:300]))
            fields = "  ".join(f"{key}={value}" for key, value in list(item.fields.items())[:8])
            if fields:
                click.echo("    " + visible(fields))
        if item.remedy:
            click.echo("    " + ("to read it: " if item.kind in {"file", "glob"} else "") + item.remedy)
    if not found:
        click.echo("no logs were found; name one with: threatlens sources add NAME PATH")


def visible(text: str) -> str:
    """Log text for a terminal: control, bidi and zero-width characters cannot act, they show."""
    return "".join(
        char if char.isprintable() else f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"
        for char in text
    )


@sources.command("add")
@click.argument("name")
@click.argument("path")
@click.option("--format", "log_format", default="auto", show_default=True, help="A decoder's name.")
@click.option("--start-at", type=click.Choice(["beginning", "end"]), default="beginning", show_default=True)
@click.option("--file-pattern", help="Which files of a folder.")
@click.option("--recursive", is_flag=True, help="Folders: those below too.")
@click.option("--timezone", default="UTC", show_default=True)
@click.option("--priority", type=click.IntRange(1, 10), default=5, show_default=True)
def sources_add(name: str, path: str, log_format: str, **options: Any) -> None:
    """Watch PATH (a file, a folder or a glob) under NAME."""
    with _services() as services:
        services.config.add_log_source({"name": name, "path": path, "format": log_format, **options})
    click.echo(f"{name}: added")


@sources.command("list")
def sources_list() -> None:
    """Every source with its state."""
    with _services() as services:
        rows = services.store.sources()
    for row in rows:
        state = row.state if row.enabled else "disabled"
        click.echo(f"{visible(row.source_name)}\t{state}\t{row.events} events\t{visible(row.path)}")
        if row.state_reason and row.enabled:
            click.echo(f"    {row.state_reason}" + (f"; {row.remedy}" if row.remedy else ""))
    if not rows:
        click.echo("nothing is watched; see: threatlens sources discover")


@sources.command("remove")
@click.argument("name")
def sources_remove(name: str) -> None:
    """Stop watching NAME; its events stay."""
    with _services() as services:
        services.config.remove_log_source(name)
    click.echo(f"{name}: removed")


# -- accounts, tokens, audit log; doctor


for _group in make_groups(_services, visible):
    main.add_command(_group)


@main.command()
def doctor() -> None:
    """Check everything that ThreatLens depends on; exit 1 with a remedy for each finding that is not well."""
    from threatlens.coverage_keeper import coverage_findings
    from threatlens.doctor import run_checks

    settings = _settings()
    try:
        with _services() as services:
            services.config.load_config()
            findings = run_checks(settings, services.config)
            findings += coverage_findings(services.rules, services.own_decoders, services.store)
    except DataFolderError:
        findings = run_checks(settings, None)
    for finding in findings:
        click.echo(f"{'ok  ' if finding.ok else 'BAD '} {finding.name}: {finding.detail}")
        if not finding.ok and finding.remedy:
            click.echo(f"     {finding.remedy}")
    if not all(finding.ok for finding in findings):
        sys.exit(1)


for _command in (*cli_analysis.COMMANDS, *cli_detection.COMMANDS, *cli_upkeep.COMMANDS):
    main.add_command(_command)
