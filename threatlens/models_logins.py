"""The table of tries to log in that failed."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, Integer, Text
from sqlalchemy.orm import Mapped, mapped_column

from threatlens.models import Base


class LoginFailureRecord(Base):
    """How often tries for one account, or from one address, have failed lately."""

    __tablename__ = "login_failures"
    key_hash: Mapped[str] = mapped_column(Text, primary_key=True)  # keyed: what was typed as a name may be a password
    count: Mapped[int] = mapped_column(Integer)
    failed_at: Mapped[int] = mapped_column(BigInteger)  # the last time
    __table_args__ = (Index("ix_login_failures_failed_at", "failed_at"), {"sqlite_with_rowid": False})
