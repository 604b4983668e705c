"""ThreatLens: a security log monitor in one light process.

create_app() builds everything and starts nothing; wsgi.py and the command line start the engine.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from threatlens.settings import Settings
    from threatlens.store_reading import Decode

__version__ = "0.1.0"


def create_app(settings: Settings | None = None) -> Flask:
    """The app, its services in app.extensions["threatlens"]; raises ThreatLensError when the data folder is no good."""
    # Flask and SQLAlchemy take half a second to import; `threatlens decode` needs neither.
    from flask import Flask

    from threatlens import web
    from threatlens.answers import AnswerLinks
    from threatlens.background import BackgroundProcessor
    from threatlens.backup_schedule import BackupSchedule
    from threatlens.broadcaster import EventBroadcaster
    from threatlens.config import ConfigManager
    from threatlens.courtesy import Courtesy
    from threatlens.coverage_keeper import CoverageKeeper
    from threatlens.detectors.geo import GeoFolder
    from threatlens.fanout import Fanout
    from threatlens.habits_keeper import HabitKeeper
    from threatlens.health import ClockWatch, HealthMonitor
    from threatlens.health_heartbeat import Heartbeat
    from threatlens.health_upkeep import Upkeep
    from threatlens.ingestions import Ingestions
    from threatlens.language_model import LanguageModel
    from threatlens.models import Base, db
    from threatlens.notifications import NotificationManager
    from threatlens.notifications_arrived import Arrivals
    from threatlens.outbound import OutboundClient
    from threatlens.own_alerts import ADVICE, OwnAlerts
    from threatlens.own_decoders import OwnDecoders
    from threatlens.passwords import Passwords
    from threatlens.raising import Raiser
    from threatlens.reports import Reporter, render_apart
    from threatlens.reports_searches import SearchReporter
    from threatlens.retention import RetentionKeeper
    from threatlens.rule_library import RuleLibrary
    from threatlens.settings import PROJECT, load_settings, prepare_data_folder, secret_key, secret_keys
    from threatlens.store import EventStore
    from threatlens.store_config import ConfigTable
    from threatlens.store_database import connect
    from threatlens.store_logins import LoginFailures
    from threatlens.store_schema import migrate
    from threatlens.threat_lists import ThreatListKeeper
    from threatlens.vault import Vault
    from threatlens.volumes import VolumeWatch
    from threatlens.web.context import Services
    from threatlens.web.limits import LoginLimits

    settings = settings or load_settings(os.environ)
    prepare_data_folder(settings)
    migrate(settings)
    app = Flask(
        "threatlens",
        root_path=PROJECT,
        template_folder="templates",
        static_folder="static",
        instance_path=settings.data,
    )
    app.config.update(
        SECRET_KEY=secret_key(settings), SQLALCHEMY_DATABASE_URI=settings.database_url, THREATLENS_VERSION=__version__
    )
    db.init_app(app)
    app.shell_context_processor(lambda: {model.__name__: model for model in Base.__subclasses__()} | {"db": db})
    own_decoders = OwnDecoders(settings.decoders_folder)
    geo = GeoFolder(os.path.join(settings.data, "geo"))

    def rereader() -> Decode:
        read = own_decoders.rereader()
        return lambda raw, name: geo.enrich(read(raw, name))

    store = EventStore(connect(settings.database_url), rereader)
    config = ConfigManager(
        settings.yaml_path,
        book=ConfigTable(store.database),
        forbidden=settings.own_files,
        formats=own_decoders.formats,
        vault=Vault(lambda: secret_keys(settings)),
    )
    outbound = OutboundClient(lambda: config.config.outbound, user_agent=f"ThreatLens/{__version__}")
    broadcaster = EventBroadcaster()
    fanout = Fanout(settings.redis_url, secret_key(settings))
    ingestions = Ingestions(settings, store)
    clock = ClockWatch()
    reporter = Reporter(store, lambda: config.config, settings.reports_folder, steady=lambda: clock.steady)
    searches = SearchReporter(
        store, lambda: config.config, settings.reports_folder, render=render_apart, steady=lambda: clock.steady
    )
    answers = AnswerLinks(lambda: secret_keys(settings), settings.base_url, lambda: config.config.answers)
    rules = RuleLibrary(settings, store, geo=geo, own=ADVICE)
    notifications = NotificationManager(
        store,
        lambda: config.config,
        outbound,
        broadcaster,
        base_url=settings.base_url,
        report=reporter.pdf,
        report_file=searches.attachment,
        answers=answers,
        arrivals=Arrivals(settings.arrivals_path),
        advice_of=rules.advice,
    )
    language_model = LanguageModel(store, lambda: config.config.llm, outbound, broadcaster)
    alerts = OwnAlerts(store, notifications, broadcaster)
    habits = HabitKeeper(store, alerts, steady=lambda: clock.steady)
    upkeep = Upkeep(
        RetentionKeeper(
            store,
            lambda: config.config.retention,
            os.path.dirname(settings.database_path) if settings.uses_sqlite else "",
            steady=lambda: clock.steady,
        ),
        Heartbeat(lambda: config.config.heartbeat, outbound),
        BackupSchedule(settings, lambda: config.config.backup, version=__version__),
        habits,
        CoverageKeeper(rules, own_decoders, habits),
        alerts,
    )
    health = HealthMonitor(settings, store, config, rules, parts=upkeep.parts, clock=clock, fanout=fanout)
    raiser = Raiser(store, notifications, broadcaster)
    threat_lists = ThreatListKeeper(
        os.path.join(settings.data, "rules", "threats"),
        os.path.join(settings.data, "cache", "lists"),
        store,
        outbound,
        raiser,
        lambda: config.config.outbound,
        declared=lambda: None if config.errors else config.config.threat_lists,
    )
    volumes = VolumeWatch(store, raiser, steady=lambda: clock.steady)
    courtesy = Courtesy()
    background = BackgroundProcessor(
        settings,
        store,
        config,
        broadcaster,
        ingestions,
        notifications,
        reporter,
        searches,
        rules,
        own_decoders,
        health,
        language_model,
        upkeep,
        threat_lists,
        volumes,
        courtesy,
        fanout,
    )
    app.extensions["threatlens"] = Services(
        settings,
        store,
        config,
        broadcaster,
        ingestions,
        notifications,
        answers,
        reporter,
        searches,
        background,
        outbound,
        Passwords(settings.argon2_memory_kib, settings.argon2_time),
        LoginLimits(LoginFailures(store.database), secret_key(settings)),
        rules,
        own_decoders,
        language_model,
        threat_lists,
        volumes,
        courtesy,
        fanout,
    )
    web.register(app, settings.hosts)
    return app
