"""What is particular to PostgreSQL: its crashes, answers that are lost, one engine for several machines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from accounts import log_in
from builders import NOW_US, Filler
from click.testing import CliRunner
from postgresql import Server
from sqlalchemy.exc import OperationalError
from test_doctor import Place

from threatlens import create_app
from threatlens.backup import make_backup
from threatlens.cli import main
from threatlens.doctor import run_checks
from threatlens.errors import BackupError, DataFolderError, NotOurs, StoreUnavailable
from threatlens.event import EventFilter
from threatlens.migrations.postgresql import translated
from threatlens.settings import Settings, load_settings, prepare_data_folder
from threatlens.store import EventRow, EventStore, Move
from threatlens.store_accounts import Doer
from threatlens.store_database import Database, connect
from threatlens.store_postgresql import adapted, query, vector
from threatlens.store_schema import HEAD, migrate

SSHD = "Nov 24 00:00:01 web sshd[1]: Failed password for root from 203.0.113.9 port 4711 ssh2"
#: Lines whose characters are trouble somewhere, and an event's user of the same kind.
ODD = (
    "a NUL \x00 inside",
    "quotes ' \" and \\ backslash",
    "percent %s and ? mark",
    "Ünïcödé ß 漢字",
    "'; DROP TABLE events",
)


@pytest.fixture
def database(postgresql: Server) -> dict[str, str]:
    postgresql.empty()
    return {"THREATLENS_DATABASE_URL": postgresql.url}


@pytest.fixture
def other(store: EventStore, settings: Settings) -> Iterator[Database]:
    """The same database, seen by another process."""
    engine = connect(settings.database_url)
    yield Database(engine)
    engine.dispose()


def row(raw: str | bytes, **changes: Any) -> EventRow:
    plain = EventRow(NOW_US, NOW_US // 1000, 1, 1, 2, 3, 2, 0, 0, 0, None, None, None, None, 10, 1, 0, raw)
    return plain._replace(**changes)


def new_stream(store: EventStore) -> int:
    source_id = store.put_api_source("auth", "auto")
    return store.create(source_id, path=b"/x", device=1, inode=1, compressed=False, position=0)


def test_a_server_that_crashed_and_came_back_goes_on_with_nothing_lost_or_doubled(
    store: EventStore, postgresql: Server
) -> None:
    stream = new_stream(store)
    store.commit([row("before")], [Move(stream, 1, 0, 7, b"f", 1, 0, 1, 0)])
    postgresql.stop()
    try:
        with pytest.raises(StoreUnavailable) as error:
            store.commit([row("during")], [Move(stream, 1, 7, 14, b"f", 1, 0, 1, 0)])
        assert error.value.reason == "away"
        with pytest.raises(StoreUnavailable):
            store.last_id()
        with pytest.raises(StoreUnavailable), store.database.writing(busy_ms=1):
            pass
    finally:
        postgresql.start()
    assert store.commit([row("during")], [Move(stream, 1, 7, 14, b"f", 1, 0, 1, 0)]) == 2
    assert [event.raw for event in store.page(EventFilter(), after=0)] == ["before", "during"]


def test_a_commit_whose_answer_was_lost_is_not_repeated(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = new_stream(store)
    batch = [row("once")], [Move(stream, 1, 0, 5, b"f", 1, 0, 1, 0)]
    dialect = store.database.engine.dialect
    commit = dialect.do_commit

    def lose_the_answer(connection: Any) -> None:
        commit(connection)
        monkeypatch.undo()
        raise OperationalError("COMMIT", {}, ConnectionError("the server closed the connection"))

    monkeypatch.setattr(dialect, "do_commit", lose_the_answer)
    with pytest.raises(StoreUnavailable):
        store.commit(*batch)
    with pytest.raises(NotOurs) as refused:
        store.commit(*batch)
    assert refused.value.stream_ids == {stream}
    assert store.commit(*batch, doubtful=True) == 1, "it is found to be stored"
    assert (store.position(stream), store.last_id()) == (5, 1)


def test_one_machine_runs_the_engine_and_another_takes_over_when_it_ends(
    store: EventStore, other: Database, postgresql: Server
) -> None:
    assert store.database.hold()
    assert store.database.hold(), "it is asked for again every few seconds"
    assert not other.hold()
    postgresql.stop()
    postgresql.start()
    assert store.database.hold(), "a crash of the server is forgotten"
    assert not other.hold()
    store.database.let_go()
    assert other.hold()
    other.let_go()


def test_any_line_is_kept_as_it_was_and_found(store: EventStore, filler: Filler) -> None:
    filler.add(*ODD, user_name="ev\x00il")
    assert [event.raw for event in store.page(EventFilter(), after=0)] == list(ODD)
    for number, word in enumerate(("\x00", "\\", "%s", "ünï", "drop"), 1):
        assert [event.id for event in store.page(EventFilter(words=(word,)))] == [number], word


def test_the_tokens_of_a_line_and_of_a_question_are_the_same() -> None:
    assert vector("Failed ROOT@example.net Ü") in {
        " ".join(each) for each in ([a, b, c] for a in PARTS for b in PARTS for c in PARTS)
    }
    assert query('"Failed" AND "ROOT@"*') == "'failed' & 'root@':*"
    long = "x" * 600
    assert query(f'"{long}"') == f"'{long[:500]}':*"
    assert vector(long) == f"'{long[:500]}'"


PARTS = ("'failed'", "'root@example.net'", "'ü'")


def test_marks_in_texts_are_no_parameters() -> None:
    assert adapted("SELECT '?', a % 10 FROM t WHERE b = ?", (1,)) == ("SELECT '?', a %% 10 FROM t WHERE b = %s", (1,))


def test_old_events_go_with_their_words_and_sums(
    store: EventStore, filler: Filler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("threatlens.store_retention.KEPT_NEWEST", 2)
    filler.add(*(f"number{number}" for number in range(5)), source_ip="203.0.113.9", user_name="root", outcome=2)
    assert store.extent().used_bytes > 5 * 100
    assert store.forget_events(0, stored_before_us=None, keep_evidence=False) == (3, 3)
    with store.database.reading() as connection:
        for table in ("events_fts", "events"):
            assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() == 2
        for table in ("event_minutes", "event_hours", "address_quarters", "user_totals"):
            assert connection.exec_driver_sql(f"SELECT sum(n) FROM {table}").scalar() == 2, table


def test_both_databases_have_the_same_tables_and_columns(store: EventStore, tmp_path: Any) -> None:
    plain = load_settings({"THREATLENS_DATA": str(tmp_path / "plain")})
    prepare_data_folder(plain)
    migrate(plain)
    engine = connect(plain.database_url)
    with engine.connect() as connection:
        wanted = set(connection.exec_driver_sql(
            "SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c"
            " WHERE m.type = 'table' AND m.name NOT LIKE 'events_fts%' AND m.name NOT LIKE 'sqlite%'"
        ).all())  # fmt: skip
    engine.dispose()
    with store.database.reading() as connection:
        found = set(connection.exec_driver_sql(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
            " AND table_name NOT IN ('events_fts', 'written')"
        ).all())  # fmt: skip
    assert {tuple(each) for each in found} == {tuple(each) for each in wanted}


def test_a_step_that_adds_a_column_later_is_translated() -> None:
    added = translated("ALTER TABLE log_sources ADD COLUMN x TEXT NOT NULL DEFAULT ''", is_new=False)
    assert added == """ALTER TABLE log_sources ADD COLUMN x TEXT COLLATE "C" NOT NULL DEFAULT ''"""
    moved = "INSERT INTO a SELECT b FROM c"
    assert (translated(moved, is_new=True), translated(moved, is_new=False)) == ("", moved)


def test_the_newest_entry_of_the_audit_log_cannot_be_taken_away_unseen(store: EventStore) -> None:
    for number in range(3):
        store.audit.append("user anna", "192.0.2.1", "source.created", f"source {number}\x00")
    assert store.audit.verify() == (3, "")
    with store.database.writing() as connection:
        connection.exec_driver_sql("DROP TRIGGER audit_log_is_not_deleted ON audit_log")
        connection.exec_driver_sql("DELETE FROM audit_log WHERE id = 3")
    try:
        assert store.audit.verify() == (2, "entry 3 is missing: 3 were written")
    finally:
        with store.database.writing() as connection:
            connection.exec_driver_sql(
                "CREATE TRIGGER audit_log_is_not_deleted BEFORE DELETE ON audit_log FOR EACH ROW"
                " EXECUTE FUNCTION audit_log_is_not_deleted()"
            )


def test_every_page_answers(settings: Settings) -> None:
    app = create_app(settings)
    app.config["TESTING"] = True
    services = app.extensions["threatlens"]
    Filler(services.store).add(SSHD, source_ip="203.0.113.9", user_name="root", outcome=2)
    admin = log_in(app, "admin")
    pages = [
        rule.rule
        for rule in app.url_map.iter_rules()
        if "GET" in (rule.methods or ())
        and not rule.arguments
        and not rule.rule.startswith(("/ws", "/static", "/readyz"))
    ]
    assert len(pages) > 30
    for page in pages:
        answer = admin.get(page)
        assert answer.status_code < 500, (page, answer.text[:300])
        answer.close()
    for search in ("sort=user.name", "sort=-source.ip", "sort=time", "sort=severity", "q=user.name:ROOT", "q=password"):
        assert "Failed password for" in admin.get(f"/events?{search}").text, search
    services.store.database.engine.dispose()


def test_what_cannot_be_used_is_named_without_its_password(settings: Settings, tmp_path: Any) -> None:
    away = replace(settings, database_url="postgresql://me:geheim@127.0.0.1:9/none")
    with pytest.raises(DataFolderError, match="cannot be used") as error:
        migrate(away)
    assert "geheim" not in str(error.value) + away.database_name
    assert away.database_name == "postgresql://me@127.0.0.1:9/none"
    place = Place(str(tmp_path), tmp_path, uses_sqlite=False, database_url=away.database_url)
    finding = next(each for each in run_checks(place, None) if each.name == "database")
    assert not finding.ok
    assert "geheim" not in finding.detail


def test_a_database_of_another_program_or_of_a_newer_version_is_refused(settings: Settings, postgresql: Server) -> None:
    prepare_data_folder(settings)
    engine = connect(settings.database_url)
    try:
        with Database(engine).writing() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(DataFolderError, match="newer"):
            migrate(settings)
        with Database(engine).writing() as connection:
            connection.exec_driver_sql("ALTER TABLE alembic_version RENAME TO not_ours")
        with pytest.raises(DataFolderError, match="not of ThreatLens"):
            migrate(settings)
    finally:
        with Database(engine).writing() as connection:
            connection.exec_driver_sql("ALTER TABLE IF EXISTS not_ours RENAME TO alembic_version")
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = ?", (HEAD,))
        engine.dispose()


def test_a_backup_names_the_tool_of_the_database(settings: Settings, tmp_path: Any) -> None:
    with pytest.raises(BackupError, match="pg_dump"):
        make_backup(settings, str(tmp_path / "backup"), version="1")


def test_the_command_line_works_on_it(settings: Settings, database: dict[str, str]) -> None:
    found = CliRunner().invoke(main, ["migrate"], env={"THREATLENS_DATA": settings.data, **database})
    assert found.exit_code == 0, found.output
    assert f"is at schema {HEAD} already" in found.output


def test_what_sqlite_holds_is_copied_whole(store: EventStore, tmp_path: Any, settings: Settings) -> None:
    plain = load_settings({"THREATLENS_DATA": str(tmp_path / "plain")})
    prepare_data_folder(plain)
    migrate(plain)
    engine = connect(plain.database_url)
    before = EventStore(engine)
    filler = Filler(before)
    filler.add(SSHD, *ODD, source_ip="203.0.113.9", user_name="root", outcome=2)
    before.create_user("anna", "hash", "admin", Doer("anna", "192.0.2.1"))

    def copy() -> Any:
        env = {"THREATLENS_DATA": settings.data, "THREATLENS_DATABASE_URL": settings.database_url}
        return CliRunner().invoke(main, ["copy-database", plain.database_path], env=env)

    done = copy()
    assert done.exit_code == 0, done.output
    assert "holds 6 events now" in done.output
    assert store.page(EventFilter()) == before.page(EventFilter())
    assert store.counts(EventFilter()) == before.counts(EventFilter())
    assert store.top_addresses(start_us=0) == before.top_addresses(start_us=0)
    assert [event.id for event in store.page(EventFilter(words=("drop",)))] == [6]
    assert store.audit.verify() == before.audit.verify() == (1, "")
    assert store.create_user("otto", "hash", "viewer", Doer("anna", "192.0.2.1")).id == 2
    stream_id, position = filler.streams["auth"][1:]
    assert store.position(stream_id) == position, "files are read on where they were"
    assert "not empty" in copy().output
    engine.dispose()
