"""The audit log only grows, and whoever gets around that is found."""

from __future__ import annotations

import sqlite3
import threading
from typing import Any

import pytest
from sqlalchemy.exc import DatabaseError

from threatlens.store_audit import MAX_TEXT


def fill(store: Any, number: int = 5) -> None:
    for each in range(number):
        store.audit.append("user anna", "192.0.2.1", "source.created", f"source {each}", {"path": "/var/log/a"})


def tamper(settings: Any, *statements: str) -> None:
    """What somebody with the file in their hands can do."""
    connection = sqlite3.connect(settings.database_path)
    for trigger in ("changed", "deleted"):
        connection.execute(f"DROP TRIGGER audit_log_is_not_{trigger}")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_entries_say_who_did_what_where_and_the_newest_come_first(store: Any) -> None:
    fill(store, 3)
    newest = store.audit.page()[0]

    assert (newest.id, newest.actor, newest.address, newest.target) == (3, "user anna", "192.0.2.1", "source 2")
    assert newest.as_json()["detail"] == {"path": "/var/log/a"}
    assert [entry.id for entry in store.audit.page(before=3)] == [2, 1]
    assert store.audit.verify() == (3, "")


@pytest.mark.parametrize("statement", ["UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log WHERE id = 3"])
def test_the_database_refuses_to_change_what_is_written(store: Any, statement: str) -> None:
    fill(store)
    with pytest.raises(DatabaseError, match="only grows"), store.database.writing() as connection:
        connection.exec_driver_sql(statement)
    assert store.audit.verify() == (5, "")


@pytest.mark.parametrize(
    ("statement", "held", "named"),
    [
        ("UPDATE audit_log SET actor = 'user eve' WHERE id = 3", 2, "entry 3 ("),
        ("UPDATE audit_log SET timestamp = timestamp + 1 WHERE id = 1", 0, "entry 1 ("),
        ("UPDATE audit_log SET detail = '{}' WHERE id = 5", 4, "entry 5 ("),
        ("DELETE FROM audit_log WHERE id = 3", 2, "entry 3 is missing"),
        ("DELETE FROM audit_log WHERE id = 5", 4, "entry 5 is missing"),
        ("DELETE FROM audit_log", 0, "entry 1 is missing"),
        ("UPDATE audit_log SET hash = 'ff' WHERE id = 2", 1, "entry 2 ("),
    ],
)
def test_one_tampered_row_is_named(store: Any, settings: Any, statement: str, held: int, named: str) -> None:
    fill(store)
    tamper(settings, statement)

    found, wrong = store.audit.verify()

    assert found == held
    assert wrong.startswith(named)


def test_an_entry_lives_and_dies_with_the_deed(store: Any) -> None:
    with pytest.raises(RuntimeError), store.database.writing() as connection:  # noqa: PT012 - the transaction ends with it
        store.audit.append("user anna", "", "token.created", connection=connection)
        raise RuntimeError
    assert store.audit.page() == []


def test_two_writers_at_once_make_one_chain(store: Any) -> None:
    threads = [threading.Thread(target=fill, args=(store, 10)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.audit.verify() == (40, "")


def test_what_is_written_is_bounded_and_any_text_can_be(store: Any) -> None:
    store.audit.append("x" * 10_000, "\ud800", "login", "\x00\u202e", {"name": ["y" * 10_000]})
    [entry] = store.audit.page()
    assert len(entry.actor) == len(entry.as_json()["detail"]["name"][0]) == MAX_TEXT
    assert store.audit.verify() == (1, "")


def test_entries_are_found_by_kind_and_person(store: Any) -> None:
    fill(store, 2)
    store.audit.append("user eve", "", "login.failed")
    store.audit.append("user eve", "", "loginx")
    assert [entry.action for entry in store.audit.page(action="login")] == ["login.failed"]
    assert [entry.id for entry in store.audit.page(actor="user eve")] == [4, 3]
