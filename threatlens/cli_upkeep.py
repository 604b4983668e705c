"""Commands for whoever looks after an installation: its secrets and its configuration."""

from __future__ import annotations

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


COMMANDS = (secrets, config)
