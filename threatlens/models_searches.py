"""What people keep: searches and when they are sent, notes about addresses, users, hosts; and what they have open."""

from __future__ import annotations

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, SmallInteger, Text
from sqlalchemy.orm import Mapped, mapped_column

from threatlens.clock import now_us
from threatlens.models import Base


class SavedSearchRecord(Base):
    """One way of looking at the events that somebody gave a name."""

    __tablename__ = "saved_searches"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(Text)
    params: Mapped[str] = mapped_column(Text)  # the part of the address behind the question mark
    created_at: Mapped[int] = mapped_column(BigInteger, default=now_us)
    pinned: Mapped[int] = mapped_column(Integer, default=0, server_default="0")  # 1: it stands on the dashboard
    __table_args__ = (Index("ux_saved_searches_user_name", "user_id", "name", unique=True),)


class SearchScheduleRecord(Base):
    """When a saved search is sent, and to whom."""

    __tablename__ = "search_schedules"
    search_id: Mapped[int] = mapped_column(ForeignKey("saved_searches.id", ondelete="CASCADE"), primary_key=True)
    every: Mapped[str] = mapped_column(Text)  # day, week
    weekday: Mapped[int] = mapped_column(SmallInteger)  # 0: Monday; of what is sent weekly
    hour: Mapped[int] = mapped_column(SmallInteger)  # 0-23, in the zone of reports
    form: Mapped[str] = mapped_column(Text)  # of the file that goes with it: csv, pdf
    channels: Mapped[str] = mapped_column(Text)  # JSON: names
    from_us: Mapped[int] = mapped_column(BigInteger)  # where the next one begins
    due_us: Mapped[int] = mapped_column(BigInteger)  # when the next one is sent, and ends
    sent_us: Mapped[int] = mapped_column(BigInteger)  # when the last one was; 0: none yet
    problem: Mapped[str] = mapped_column(Text)  # why the last one was not; "": it was


class EntityNoteRecord(Base):
    """Something that somebody wrote down about an address, a user or a host."""

    __tablename__ = "entity_notes"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    kind: Mapped[str] = mapped_column(Text)  # source.ip, user.name, host.name
    value: Mapped[str] = mapped_column(Text)
    author: Mapped[str] = mapped_column(Text)
    text: Mapped[str] = mapped_column(Text)
    created_at: Mapped[int] = mapped_column(BigInteger, default=now_us)
    __table_args__ = (Index("ix_entity_notes_value", "kind", "value", "id"),)


class IncidentWatcherRecord(Base):
    """Somebody who has the page of an incident open; their browser says so again and again."""

    __tablename__ = "incident_watchers"
    incident_id: Mapped[int] = mapped_column(Integer, primary_key=True)
    user_name: Mapped[str] = mapped_column(Text, primary_key=True)
    seen_us: Mapped[int] = mapped_column(BigInteger)  # the last time
    __table_args__ = ({"sqlite_with_rowid": False},)
