"""What tests share: a data folder, a store in it, an app on it."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from accounts import log_in
from builders import Filler
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from postgresql import PROGRAMS, Server
from receivers import hook, make_hook  # noqa: F401 - fixtures
from redis_server import PROGRAM as REDIS
from redis_server import RedisServer
from served import served  # noqa: F401 - a fixture

from threatlens import create_app, logs
from threatlens.settings import Settings, load_settings, prepare_data_folder
from threatlens.store import EventStore
from threatlens.store_database import connect
from threatlens.store_schema import migrate

#: What an example costs is for benchmarks: a machine that stands still for a second is no mistake of the example.
#: Its examples are the same each time, so that a run of the suite says something about a change; new ones are looked
#: for by the long runs.
hypothesis_settings.register_profile(
    "any machine",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="THREATLENS_MODEL_EXAMPLES" not in os.environ,
)
hypothesis_settings.load_profile("any machine")

#: Where the product gives up because somebody waits.
GIVEN_UP = (
    "store_database.READING_S", "store_search.SEARCH_S", "reports_searches.COUNTED_S", "web.comparison.SURVEY_S",
    "web.events.SURVEY_S", "web.searches.CELL_S", "web.rules.BACKTEST_S",
)  # fmt: skip


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test logged may hold half characters, which no worker can send: they are spelled out."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What is marked both_databases runs twice: with SQLite and with PostgreSQL."""
    if metafunc.definition.get_closest_marker("both_databases") and "database" in metafunc.fixturenames:
        metafunc.parametrize("database", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stands still for a moment cuts no search off; a test of the cut sets it itself."""
    for name in GIVEN_UP:
        monkeypatch.setattr(f"threatlens.{name}", 60.0)


@pytest.fixture(autouse=True)
def process_as_before() -> Iterator[None]:
    """What commands and services set for the whole of a process ends with the test that ran them in this one."""
    root = logging.getLogger()
    levels = {logger: logger.level for logger in (root, *map(logging.getLogger, logs.CHATTY))}
    thresholds = gc.get_threshold()
    yield
    for handler in root.handlers[:]:
        if isinstance(handler, logs.Handler):
            root.removeHandler(handler)
    for logger, level in levels.items():
        logger.setLevel(level)
    logging.captureWarnings(False)
    gc.unfreeze()
    gc.set_threshold(*thresholds)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server of our own."""
    if not PROGRAMS:
        pytest.skip("PostgreSQL is not installed")
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as folder:  # the path of a socket is short
        server = Server(folder)
        yield server
        server.stop()


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis server of our own."""
    if REDIS is None:
        pytest.skip("Redis is not installed")
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        server = RedisServer(folder)
        yield server
        server.kill()


@pytest.fixture
def database(request: pytest.FixtureRequest) -> dict[str, str]:
    """The settings of the database: none for SQLite's file in the data folder."""
    if getattr(request, "param", os.environ.get("THREATLENS_TEST_DATABASE", "sqlite")) == "sqlite":
        return {}
    server = request.getfixturevalue("postgresql")
    server.empty()
    return {"THREATLENS_DATABASE_URL": server.url}


@pytest.fixture
def settings(tmp_path: Any, database: dict[str, str]) -> Settings:
    cheap = {"THREATLENS_ARGON2_MEMORY_KIB": "8", "THREATLENS_ARGON2_TIME": "1"}
    return load_settings({"THREATLENS_DATA": str(tmp_path / "data"), **cheap, **database})


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a database as migrations leave it: a copy of it is one in no time."""
    settings = load_settings({"THREATLENS_DATA": str(tmp_path_factory.mktemp("empty") / "data")})
    prepare_data_folder(settings)
    migrate(settings)
    return settings.database_path


@pytest.fixture
def prepared(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """The settings, and an empty database behind them."""
    prepare_data_folder(settings)
    if settings.uses_sqlite:
        shutil.copy(request.getfixturevalue("empty_database"), settings.database_path)
    else:
        migrate(settings)
    return settings


@pytest.fixture
def store(prepared: Settings) -> Iterator[EventStore]:
    engine = connect(prepared.database_url)
    yield EventStore(engine)
    engine.dispose()


@pytest.fixture
def app(prepared: Settings) -> Iterator[Any]:
    app = create_app(prepared)
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
