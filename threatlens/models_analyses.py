"""The table of what a language model said."""

from __future__ import annotations

from sqlalchemy import BigInteger, Float, Index, Integer, SmallInteger, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from threatlens.clock import now_us
from threatlens.models import Base


class AnalysisRecord(Base):
    """One question about one incident or one message shape, and what of the answer holds."""

    __tablename__ = "ai_analysis"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    incident_id: Mapped[int] = mapped_column(Integer)  # 0: about a message shape
    fingerprint: Mapped[str] = mapped_column(Text)  # of the incident as it was then
    state: Mapped[str] = mapped_column(Text)  # done, failed
    provider: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    prompt_version: Mapped[str] = mapped_column(Text)
    explanation: Mapped[str] = mapped_column(Text)
    recommendations: Mapped[str] = mapped_column(Text)  # JSON: [text, ...]
    severity: Mapped[int] = mapped_column(SmallInteger)  # the model's opinion; 0: none
    confidence: Mapped[str] = mapped_column(Text)
    dropped: Mapped[int] = mapped_column(Integer)  # sentences that did not hold
    talks: Mapped[int] = mapped_column(SmallInteger)  # 1: the evidence talks to a model
    requests: Mapped[int] = mapped_column(Integer)
    input_tokens: Mapped[int] = mapped_column(Integer)
    output_tokens: Mapped[int] = mapped_column(Integer)
    error: Mapped[str] = mapped_column(Text)
    created_at: Mapped[int] = mapped_column(BigInteger, default=now_us)
    template_id: Mapped[int] = mapped_column(Integer, default=0)  # the message shape; 0: about an incident
    cost: Mapped[float] = mapped_column(Float, default=0)  # money, as the prices were then
    __table_args__ = (
        Index("ix_ai_analysis_incident_id", "incident_id", "id"),
        Index("ix_ai_analysis_created_at", "created_at"),
        Index("ix_ai_analysis_template_id", "template_id", "id", sqlite_where=text("template_id > 0")),
    )
