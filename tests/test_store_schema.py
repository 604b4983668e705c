"""The database is made whole, migrated with a copy, and never overwritten when it is not ours (F28, F29)."""

from __future__ import annotations

import os
import sqlite3

import pytest

from threatlens import (
    models,
    models_analyses,
    models_logins,
    models_notifications,
    models_reports,
    models_rollups,
    models_searches,
    models_threats,
)
from threatlens.errors import DataFolderError
from threatlens.settings import prepare_data_folder
from threatlens.store_schema import HEAD, file_system, migrate, revision


@pytest.fixture
def path(settings):
    prepare_data_folder(settings)
    return settings.database_path


def test_a_new_database_is_at_head_and_a_second_start_changes_nothing(settings, path):
    assert migrate(settings) == ""
    before = os.stat(path).st_mtime_ns
    assert migrate(settings) == HEAD
    assert os.stat(path).st_mtime_ns == before
    assert not os.path.exists(path + ".new")


def test_head_is_alembics_newest_revision():
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", os.path.join(os.path.dirname(models.__file__), "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_the_models_and_the_migrations_name_the_same_columns(settings, path):
    migrate(settings)
    connection = sqlite3.connect(path)
    for record in (
        models_analyses.AnalysisRecord,
        models_logins.LoginFailureRecord,
        models_searches.IncidentWatcherRecord,
        models_notifications.NotificationRecord,
        models_threats.ThreatListRecord,
        models_threats.ListPassRecord,
        models_reports.ReportRecord,
        models_rollups.EventHourRecord,
        models_searches.SavedSearchRecord,
    ):
        assert record.__tablename__ in models.Base.metadata.tables
    for table in models.Base.metadata.sorted_tables:
        found = {row[1] for row in connection.execute(f"PRAGMA table_info({table.name})")}
        assert found == {column.name for column in table.columns}, table.name
        indexes = {row[1] for row in connection.execute(f"PRAGMA index_list({table.name})")}
        assert {index.name for index in table.indexes} <= indexes, table.name
    connection.close()


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty"), (b"SQLite format 3\0 but torn", "cannot be used"), (b"not a database" * 100, "cannot be used")],
)
def test_a_file_that_is_no_database_is_refused_and_left_alone(settings, path, content, words):
    with open(path, "wb") as file:
        file.write(content)
    with pytest.raises(DataFolderError, match=words) as error:
        migrate(settings)
    assert path in str(error.value)
    assert "restore" in str(error.value)
    with open(path, "rb") as file:
        assert file.read() == content


def test_a_truncated_database_is_refused(settings, path):
    migrate(settings)
    size = os.path.getsize(path)
    os.truncate(path, size // 3)
    with pytest.raises(DataFolderError, match="cannot be used"):
        migrate(settings)
    assert os.path.getsize(path) == size // 3


def test_a_newer_schema_is_refused(settings, path):
    migrate(settings)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(DataFolderError, match="newer ThreatLens"):
        migrate(settings)


def test_somebody_elses_database_is_refused(settings, path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE music (title)")
    connection.commit()
    connection.close()
    with pytest.raises(DataFolderError, match="cannot be used"):
        migrate(settings)


def test_a_database_that_cannot_be_written_is_refused(settings, path, monkeypatch):
    migrate(settings)
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(DataFolderError, match="cannot be written"):
        migrate(settings)


def test_an_interrupted_first_start_leaves_nothing_that_matters(settings, path):
    with open(path + ".new", "wb") as file:
        file.write(b"half")
    migrate(settings)
    assert revision(path) == HEAD


def test_the_file_system_of_a_folder_is_known():
    assert file_system("/proc") == "proc"
