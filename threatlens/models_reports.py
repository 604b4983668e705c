"""The table of reports."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, Integer, SmallInteger, Text
from sqlalchemy.orm import Mapped, mapped_column

from threatlens.clock import now_us
from threatlens.models import Base


class ReportRecord(Base):
    """One report: its span, what is in it, and where its PDF is."""

    __tablename__ = "reports"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    kind: Mapped[str] = mapped_column(Text)  # daily, weekly, monthly, range
    day: Mapped[str] = mapped_column(Text)  # the local date it begins on
    start_us: Mapped[int] = mapped_column(BigInteger)
    end_us: Mapped[int] = mapped_column(BigInteger)
    zone: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)  # making, done, failed
    tries: Mapped[int] = mapped_column(SmallInteger)
    file: Mapped[str] = mapped_column(Text)  # name of the PDF in the reports folder
    size: Mapped[int] = mapped_column(BigInteger)  # bytes
    error: Mapped[str] = mapped_column(Text)
    headline: Mapped[str] = mapped_column(Text)
    data: Mapped[str] = mapped_column(Text)  # JSON: the document that page and PDF show
    created_at: Mapped[int] = mapped_column(BigInteger, default=now_us)
    made_us: Mapped[int] = mapped_column(BigInteger)
    __table_args__ = (Index("ux_reports_span", "kind", "day", "end_us", unique=True),)
