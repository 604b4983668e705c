"""The tables of sums over long times; the database keeps them itself, by triggers on those of short times."""

from __future__ import annotations

from sqlalchemy import Integer, SmallInteger, Text
from sqlalchemy.orm import Mapped, mapped_column

from threatlens.models import Base


class EventHourRecord(Base):
    """The same by the hour, for long times; triggers on event_minutes keep it."""

    __tablename__ = "event_hours"
    hour: Mapped[int] = mapped_column(Integer, primary_key=True)  # hours since the epoch
    source_id: Mapped[int] = mapped_column(Integer, primary_key=True)
    category_id: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    severity: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    n: Mapped[int] = mapped_column(Integer)
    first_id: Mapped[int] = mapped_column(Integer)  # no event of the hour has a lower id
    last_id: Mapped[int] = mapped_column(Integer)  # nor a higher one
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012 - as SQLAlchemy wants it


class AddressQuarterRecord(Base):
    """What each address did in six hours of event time; triggers on address_slots keep it."""

    __tablename__ = "address_quarters"
    quarter: Mapped[int] = mapped_column(Integer, primary_key=True)  # quarters of days since the epoch
    source_ip: Mapped[str] = mapped_column(Text, primary_key=True)
    category_id: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    n: Mapped[int] = mapped_column(Integer)
    failures: Mapped[int] = mapped_column(Integer)
    successes: Mapped[int] = mapped_column(Integer)
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012 - as SQLAlchemy wants it
