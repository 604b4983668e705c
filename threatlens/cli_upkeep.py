"""Commands for whoever looks after an installation: its secrets, its configuration, its backups."""

from __future__ import annotations

import os
import time

import click

from threatlens.cli_session import current_settings, services


@click.group()
def secrets() -> None:
    """Stored secrets: passwords of mail servers, keys of chats and language models."""


@secrets.command("rotate")
def rotate() -> None:
    """Seal all stored secrets with a new key; the old one is forgotten.

    With THREATLENS_SECRET_KEY write "NEW OLD" (a blank between) into it first, and take OLD out when this is done.
    """
    from threatlens.settings import new_secret_key, prepare_data_folder, secret_keys, write_secret_keys
    from threatlens.store_secrets import reseal
    from threatlens.vault import Vault

    settings = current_settings()
    prepare_data_folder(settings)
    keys = secret_keys(settings)
    with services() as found:
        if not settings.secret_key:
            # Both keys are there before anything is sealed with the new one: this may end at any moment.
            keys = [new_secret_key(), *keys]
            write_secret_keys(settings, keys)
        changed, lost = reseal(found.store.database, Vault(lambda: keys))
        if not settings.secret_key:
            write_secret_keys(settings, keys[:1])
    click.echo(f"{changed} secrets are sealed with the new key")
    if lost:
        click.echo(f"{lost} cannot be read with any key that is there; enter them again", err=True)
    if settings.secret_key and len(keys) > 1:
        click.echo("the old key can be taken out of THREATLENS_SECRET_KEY")


@click.group()
def config() -> None:
    """The configuration: its history, and a copy of it without secrets."""


@config.command("history")
def history() -> None:
    """List what was saved in the UI and on the command line, newest first."""
    with services() as found:
        for version in found.config.history():
            when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(version.saved_us / 1e6))
            click.echo(f"{version.version_id}\t{when}\t{version.author or '-'}\t{version.note}")


@config.command("export")
def export() -> None:
    """Print the configuration in force as threatlens.yaml, with env:NAME in the place of each secret."""
    from threatlens.config_export import exported

    with services() as found:
        click.echo(exported(found.config.load_config()), nl=False)


@config.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
def import_(file: str) -> None:
    """Save FILE (as threatlens.yaml is written) as the configuration, beside what threatlens.yaml declares."""
    from threatlens.config_export import read_export

    with services() as found:
        found.config.load_config()
        found.config.import_settings(read_export(file), author="command line")
    click.echo(f"{file}: imported")


def _passphrase(file: str | None) -> str:
    """The passphrase of a backup; "" for none."""
    if file is None:
        return os.environ.get("THREATLENS_BACKUP_PASSPHRASE", "")
    try:
        with open(file, encoding="utf-8") as stream:
            found = stream.readline(1000).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{file!r} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}"
        raise click.ClickException(msg) from error
    if not found:
        msg = f"{file!r} holds no passphrase in its first line"
        raise click.UsageError(msg)
    return found


_PASSPHRASE = click.option(
    "--passphrase-file",
    type=click.Path(),
    help="A file whose first line encrypts the backup.  [default: THREATLENS_BACKUP_PASSPHRASE, if it is set]",
)


@click.command()
@_PASSPHRASE
@click.argument("file", type=click.Path(dir_okay=False))
def backup(passphrase_file: str | None, file: str) -> None:
    """Save the database, threatlens.yaml and your rules to FILE, while ThreatLens runs.

    The key of the stored secrets is not in it: keep a copy of secret.key (or THREATLENS_SECRET_KEY) elsewhere.
    """
    from threatlens import __version__
    from threatlens.backup import make_backup

    passphrase = _passphrase(passphrase_file)
    size = make_backup(current_settings(), file, version=__version__, passphrase=passphrase)
    click.echo(f"{file}: {size:,} bytes, verified{', encrypted' if passphrase else ''}")


@click.command("copy-database")
@click.argument("file", type=click.Path(exists=True, dir_okay=False), required=False)
def copy_database(file: str | None) -> None:
    """Copy everything from SQLite's FILE into the empty PostgreSQL database of THREATLENS_DATABASE_URL.

    FILE is threatlens.db of the data folder unless it is named. ThreatLens must be stopped: what is stored meanwhile
    stays behind.
    """
    from threatlens.settings import DATABASE, prepare_data_folder
    from threatlens.store_copy import copy_into
    from threatlens.store_database import Database, connect
    from threatlens.store_schema import migrate

    settings = current_settings()
    if settings.uses_sqlite:
        raise click.ClickException(
            "THREATLENS_DATABASE_URL must name a PostgreSQL database: postgresql://user@host/name"
        )
    prepare_data_folder(settings)
    migrate(settings)
    engine = connect(settings.database_url)
    try:
        events = copy_into(
            file or os.path.join(settings.data, DATABASE),
            Database(engine),
            lambda table, n: click.echo(f"{table:24}{n:>14,}"),
        )
    finally:
        engine.dispose()
    click.echo(f"{settings.database_name} holds {events:,} events now; keep THREATLENS_DATABASE_URL set from here on")


@click.command()
@_PASSPHRASE
@click.argument("file", type=click.Path(dir_okay=False))
def restore(passphrase_file: str | None, file: str) -> None:
    """Put what FILE holds in the place of what is in the data folder, which is kept. ThreatLens must be stopped."""
    from threatlens.backup import restore_backup
    from threatlens.settings import prepare_data_folder
    from threatlens.store_schema import migrate

    settings = current_settings()
    prepare_data_folder(settings)
    done = restore_backup(settings, file, passphrase=_passphrase(passphrase_file))
    migrate(settings)
    click.echo(f"{file}: restored {', '.join(done.files[:5])}{', ...' if len(done.files) > 5 else ''}")
    if done.kept_in:
        click.echo(f"what was there before is in {done.kept_in}")
    if done.needs_key:
        with services() as found:
            found.config.load_config()
            lost = any("enter it again" in error.message for error in found.config.errors)
        if lost:
            click.echo(f"its secrets need the key they were saved with: bring it back as {settings.key_path}", err=True)


@click.command("test-attack")
@click.option("--tell", is_flag=True, help="Whoever is told of real attacks is told of this one.")
@click.option("--remove", is_flag=True, help="Take it away again, with its incident and its lines.")
def fire_test_attack(tell: bool, remove: bool) -> None:
    """Let a small made-up attack arrive, to see an incident come up; it is marked and counts nowhere."""
    from threatlens.store_accounts import COMMAND_LINE

    with services() as found:
        gone = found.store.remove_test_attacks(COMMAND_LINE)
        if not remove:
            found.ingestions.fire_test_attack(tells=tell)
    if remove:
        click.echo(f"{gone} test attack{'' if gone == 1 else 's'} removed")
    else:
        click.echo("on its way; take it away again with: threatlens test-attack --remove")


COMMANDS = (copy_database, secrets, config, backup, restore, fire_test_attack)
