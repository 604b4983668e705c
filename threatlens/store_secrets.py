"""Every column in which sealed secrets stand, and their change from one key to the next."""

from __future__ import annotations

import re
from functools import partial

from threatlens.errors import SecretError
from threatlens.store_database import Database
from threatlens.vault import PREFIX, Vault

#: Table, column, and what the secrets in it are sealed for. A column that holds secrets has a row here.
COLUMNS = (("monitoring_config", "config_data", "configuration"),)
_SEALED = re.compile(re.escape(PREFIX) + r"[0-9a-f]{8}:[A-Za-z0-9_=-]+")


def reseal(database: Database, vault: Vault) -> tuple[int, int]:
    """Seal every secret with the key in use, in one transaction.

    How many were changed, and how many none of the keys opens (they stay as they are). Raises StoreUnavailable; then
    nothing has changed.
    """
    changed = lost = 0

    def sealed_anew(purpose: str, found: re.Match[str]) -> str:
        nonlocal changed, lost
        if vault.is_current(found[0]):
            return found[0]
        try:
            secret = vault.open(found[0], purpose)
        except SecretError:
            lost += 1
            return found[0]
        changed += 1
        return vault.seal(secret, purpose)

    with database.writing() as connection:
        for table, column, purpose in COLUMNS:
            rows = connection.exec_driver_sql(
                f"SELECT id, {column} FROM {table} WHERE instr({column}, ?) > 0",
                (PREFIX,),
            ).all()
            for row_id, text in rows:
                anew = _SEALED.sub(partial(sealed_anew, purpose), text)
                if anew != text:
                    connection.exec_driver_sql(
                        f"UPDATE {table} SET {column} = ? WHERE id = ?",
                        (anew, row_id),
                    )
    return changed, lost
