"""The models, as Flask's shell and whoever writes a script of their own meets them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from threatlens.models import EventRecord, LogSourceRecord, db


def test_flask_sqlalchemy_reads_what_the_store_has_written(app: Any, filler: Any) -> None:
    filler.add("one", "two", "three")
    with app.app_context():
        assert db.session.execute(select(func.count()).select_from(EventRecord)).scalar_one() == 3
        names = db.session.scalars(select(LogSourceRecord.source_name)).all()
    assert names == [source.source_name for source in filler.store.sources()] != []


def test_the_shell_knows_the_models(app: Any) -> None:
    with app.app_context():
        known = app.make_shell_context()
    assert known["db"] is db
    assert known["EventRecord"] is EventRecord
