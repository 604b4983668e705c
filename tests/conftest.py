"""What tests share: a data folder, a store in it, an app on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from accounts import log_in
from builders import Filler
from postgresql import drop_database, make_database
from receivers import hook, make_hook  # noqa: F401 - fixtures
from served import served  # noqa: F401 - a fixture

from threatlens import create_app
from threatlens.settings import Settings, load_settings, prepare_data_folder
from threatlens.store import EventStore
from threatlens.store_database import connect
from threatlens.store_schema import migrate


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test logged may hold half characters, which no worker can send: they are spelled out."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture
def database() -> Iterator[Any]:
    """Makes databases on the PostgreSQL server that THREATLENS_TEST_DATABASE names: their settings; {}: no server."""
    server = os.environ.get("THREATLENS_TEST_DATABASE")
    made: list[str] = []

    def make() -> dict[str, str]:
        if not server:
            return {}
        made.append(make_database(server))
        return {"THREATLENS_DATABASE_URL": made[-1]}

    yield make
    for url in made:
        drop_database(url)


@pytest.fixture
def settings(tmp_path: Any, database: Callable[[], dict[str, str]]) -> Settings:
    cheap = {"THREATLENS_ARGON2_MEMORY_KIB": "8", "THREATLENS_ARGON2_TIME": "1"}
    return load_settings({"THREATLENS_DATA": str(tmp_path / "data"), **cheap, **database()})


@pytest.fixture
def store(settings: Settings) -> Iterator[EventStore]:
    prepare_data_folder(settings)
    migrate(settings)
    engine = connect(settings.database_url)
    yield EventStore(engine)
    engine.dispose()


@pytest.fixture
def app(settings: Settings) -> Iterator[Any]:
    app = create_app(settings)
    app.config["TESTING"] = True
    yield app
    app.extensions["threatlens"].store.database.engine.dispose()


@pytest.fixture
def services(app: Any) -> Any:
    return app.extensions["threatlens"]


@pytest.fixture
def viewer_client(app: Any) -> Any:
    """A browser of somebody who may read."""
    return log_in(app, "viewer")


@pytest.fixture
def analyst_client(app: Any) -> Any:
    """A browser of somebody who may work on what was found."""
    return log_in(app, "analyst")


@pytest.fixture
def admin_client(app: Any) -> Any:
    """A browser of somebody who may do everything."""
    return log_in(app, "admin")


@pytest.fixture
def filler(store: EventStore) -> Filler:
    return Filler(store)
