"""Accounts, tokens and the audit log from a shell: whoever may write the data folder may administer."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from threatlens.store_accounts import User
    from threatlens.web.context import Services

Open = Callable[[], AbstractContextManager["Services"]]


def make_groups(services: Open, visible: Callable[[str], str]) -> list[click.Group]:
    """The commands `user`, `token` and `audit`; `services` opens the data folder, `visible` makes text harmless."""
    return [_user_group(services), _token_group(services, visible), _audit_group(services, visible)]


# -- user


def _user_group(services: Open) -> click.Group:
    user = click.Group("user", help="Accounts of people.")

    @user.command("create")
    @click.option("--name", required=True, help="What they log in with.")
    @click.option("--role", default="viewer", show_default=True, help="viewer, analyst or admin.")
    @click.option("--source", "sources", multiple=True, help="A source that they may see; repeat it. Without: all.")
    def create(name: str, role: str, sources: tuple[str, ...]) -> None:
        """Make an account; the password is asked for, or read from standard input."""
        from threatlens.store_accounts import COMMAND_LINE

        with services() as found:
            kept = _new_password(found, name)
            made = found.store.create_user(name, kept, role, COMMAND_LINE, sources=sources)
        click.echo(f"{made.name}: {made.role}")

    @user.command("list")
    def list_users() -> None:
        """Every account with its role."""
        with services() as found:
            rows = found.store.users()
        for row in rows:
            only = f"\tonly {', '.join(row.sources)}" if row.sources else ""
            click.echo(f"{row.name}\t{row.role}{only}" + ("" if row.enabled else "\tdisabled"))

    @user.command("role")
    @click.argument("name")
    @click.argument("role")
    def role(name: str, role: str) -> None:
        """Give NAME another ROLE; ends their sessions."""
        from threatlens.store_accounts import COMMAND_LINE

        with services() as found:
            found.store.set_role(_named(found, name).id, role, COMMAND_LINE)

    @user.command("sources")
    @click.argument("name")
    @click.argument("sources", nargs=-1)
    def only(name: str, sources: tuple[str, ...]) -> None:
        """Keep NAME to these SOURCES, or to none in particular; ends their sessions."""
        from threatlens.store_accounts import COMMAND_LINE

        with services() as found:
            found.store.set_sources(_named(found, name).id, sources, COMMAND_LINE)

    @user.command("password")
    @click.argument("name")
    def password(name: str) -> None:
        """Give NAME another password, asked for or read from standard input; ends their sessions."""
        from threatlens.store_accounts import COMMAND_LINE

        with services() as found:
            known = _named(found, name)
            found.store.set_password(known.id, _new_password(found, name), COMMAND_LINE)

    for word, enabled in (("disable", False), ("enable", True)):
        user.add_command(_switch(services, word, enabled))

    @user.command("remove")
    @click.argument("name")
    def remove(name: str) -> None:
        """Remove the account NAME with its sessions and tokens."""
        from threatlens.store_accounts import COMMAND_LINE

        with services() as found:
            found.store.remove_user(_named(found, name).id, COMMAND_LINE)

    @user.command("setup-link")
    def setup_link() -> None:
        """Print a new link that makes the first account, once, within an hour; earlier ones end."""
        with services() as found:
            link = found.setup_link()
        if link is None:
            raise click.ClickException("there are accounts already; make others with: threatlens user create")
        click.echo(link)

    return user


def _switch(services: Open, word: str, enabled: bool) -> click.Command:
    @click.command(word, help=f"{word.capitalize()} the account NAME" + ("." if enabled else "; ends its sessions."))
    @click.argument("name")
    def switch(name: str) -> None:
        from threatlens.store_accounts import COMMAND_LINE

        with services() as found:
            found.store.set_enabled(_named(found, name).id, enabled, COMMAND_LINE)

    return switch


def _named(found: Services, name: str) -> User:
    known = found.store.user_named(name)
    if known is None:
        raise click.ClickException(f"there is no account named {name[:100]!r}")
    return known


def _new_password(found: Services, name: str) -> str:
    """The hash of a password from the terminal, or of the first line of standard input."""
    from threatlens.passwords import check_password

    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\n")
    check_password(password, [name])
    return found.passwords.hash(password)


# -- token


def _token_group(services: Open, visible: Callable[[str], str]) -> click.Group:
    token = click.Group("token", help="Bearer tokens for the API.")

    @token.command("create")
    @click.option("--name", required=True, help="What the token is for.")
    @click.option("--role", required=True, help="viewer, analyst or admin.")
    @click.option("--days", type=click.IntRange(1, 3650), help="How long it lasts.  [default: until it is revoked]")
    @click.option("--scope", "scopes", multiple=True, help="read, ingest or write; may be repeated.  [default: all]")
    @click.option("--source", "sources", multiple=True, help="Only for this source; may be repeated.")
    def create(name: str, role: str, days: int | None, scopes: tuple[str, ...], sources: tuple[str, ...]) -> None:
        """Make a token and print it, alone, on standard output; it is never shown again."""
        from threatlens.store_tokens import SCOPES

        expires_at = int((time.time() + days * 86_400) * 1_000_000) if days else 0
        with services() as found:
            click.echo(
                found.store.create_token(name, role, expires_at=expires_at, scopes=scopes or SCOPES, sources=sources)
            )

    @token.command("list")
    def list_tokens() -> None:
        """Every token, without its secret."""
        from threatlens.event import rfc3339

        with services() as found:
            rows = found.store.tokens()
        for row in rows:
            ends = f"until {rfc3339(row.expires_at)}" if row.expires_at else "for ever"
            only = f"\tonly {', '.join(row.sources)}" if row.sources else ""
            click.echo(visible(f"{row.name}\t{row.role}\t{', '.join(row.scopes)}\t{ends}{only}".replace("\t", "  ")))

    @token.command("revoke")
    @click.argument("name")
    def revoke(name: str) -> None:
        """End the token NAME now."""
        with services() as found:
            numbers = [row.id for row in found.store.tokens() if row.name == name]
            if not numbers or not found.store.revoke_token(numbers[0]):
                raise click.ClickException(f"there is no token named {name[:100]!r}")

    return token


# -- audit


def _audit_group(services: Open, visible: Callable[[str], str]) -> click.Group:
    audit = click.Group("audit", help="The log of who did what.")

    @audit.command("verify")
    def verify() -> None:
        """Check that no entry was changed or removed; exit 1 naming the first that was."""
        with services() as found:
            held, wrong = found.store.audit.verify()
        if wrong:
            raise click.ClickException(f"the audit log does not hold: {wrong}")
        click.echo(f"{held} entries hold")

    @audit.command("export")
    def export() -> None:
        """Print all entries, oldest first, as one JSON object a line."""
        from threatlens.web.strict_json import dumps

        with services() as found:
            for entry in found.store.audit.entries():
                click.echo(visible(dumps(entry.as_json()).decode()))

    return audit
