"""The tables of threat lists."""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer, Text
from sqlalchemy.orm import Mapped, mapped_column

from threatlens.clock import now_us
from threatlens.models import Base


class ThreatListRecord(Base):
    """One list: a file of the folder rules/threats, fetched from a URL or put there by somebody."""

    __tablename__ = "threat_lists"
    name: Mapped[str] = mapped_column(Text, primary_key=True)  # of the file, without its ending
    url: Mapped[str] = mapped_column(Text, default="")  # "": somebody else puts the file there
    every_s: Mapped[int] = mapped_column(Integer, default=86_400)  # between two looks at the URL
    etag: Mapped[str] = mapped_column(Text, default="")  # of the copy that is there
    last_modified: Mapped[str] = mapped_column(Text, default="")
    entries: Mapped[int] = mapped_column(Integer, default=0)
    ignored: Mapped[int] = mapped_column(Integer, default=0)  # entries that are no address, network, domain or hash
    added: Mapped[int] = mapped_column(Integer, default=0)  # entries that the last change brought
    checked_at: Mapped[int] = mapped_column(BigInteger, default=0)  # the URL answered
    changed_at: Mapped[int] = mapped_column(BigInteger, default=0)  # the file changed
    next_at: Mapped[int] = mapped_column(BigInteger, default=0)  # when the URL is due
    failures: Mapped[int] = mapped_column(Integer, default=0)  # in a row
    error: Mapped[str] = mapped_column(Text, default="")  # of the last try; "": it went well
    seen: Mapped[str] = mapped_column(Text, default="")  # time and size of the file that was read last
    pending: Mapped[int] = mapped_column(Integer, default=0)  # 1: past events wait to be compared, 2: they are now
    marked: Mapped[int] = mapped_column(Integer, default=0)  # past events that turned out to be hits
    created_at: Mapped[int] = mapped_column(BigInteger, default=now_us)
    declared: Mapped[int] = mapped_column(Integer, default=0, server_default="0")  # 1: the configuration names it


class ListPassRecord(Base):
    """The comparison of past events with new entries, from the newest to the oldest. One row: the last pass."""

    __tablename__ = "list_passes"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    next_id: Mapped[int] = mapped_column(BigInteger)  # the event to be looked at next
    low_id: Mapped[int] = mapped_column(BigInteger)  # the last one
    looked: Mapped[int] = mapped_column(Integer, default=0)
    marked: Mapped[int] = mapped_column(Integer, default=0)
    started_at: Mapped[int] = mapped_column(BigInteger)
    ended_at: Mapped[int] = mapped_column(BigInteger, default=0)  # 0: it runs
