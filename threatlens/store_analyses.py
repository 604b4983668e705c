"""What a language model said about incidents and message shapes, how often it was asked, and what that cost."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from threatlens.event import rfc3339
from threatlens.store_database import Database

KEEP = 20_000  # rows

DONE, FAILED = "done", "failed"


@dataclass(frozen=True, slots=True)
class ModelAnalysis:
    """One row of ai_analysis."""

    incident_id: int
    fingerprint: str
    state: str
    provider: str
    model: str
    prompt_version: str
    explanation: str = ""
    recommendations: tuple[str, ...] = ()
    severity: int = 0
    confidence: str = ""
    dropped: int = 0
    talks: bool = False
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    error: str = ""
    created_at: int = 0
    template_id: int = 0  # the message shape that it is about instead of an incident
    cost: float = 0.0  # money

    def as_json(self) -> dict[str, Any]:
        """Its shape in the API."""
        return {
            "state": self.state,
            "provider": self.provider,
            "model": self.model,
            "prompt_version": self.prompt_version,
            "explanation": self.explanation,
            "recommendations": list(self.recommendations),
            "severity": self.severity or None,
            "confidence": self.confidence,
            "dropped_sentences": self.dropped,
            "contains_instructions": self.talks,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cost": self.cost,
            "error": self.error,
            "created_at": rfc3339(self.created_at),
        }


_COLUMNS = (
    "incident_id, fingerprint, state, provider, model, prompt_version, explanation, recommendations, severity,"
    " confidence, dropped, talks, requests, input_tokens, output_tokens, error, created_at, template_id, cost"
)


class AnalysisBook:
    """The table ai_analysis."""

    database: Database

    def put_analysis(self, one: ModelAnalysis) -> None:
        """Store it; the oldest rows go."""
        with self.database.writing() as connection:
            connection.exec_driver_sql(
                f"INSERT INTO ai_analysis ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (one.incident_id, one.fingerprint, one.state, one.provider, one.model, one.prompt_version,
                 one.explanation, json.dumps(one.recommendations), one.severity, one.confidence, one.dropped,
                 int(one.talks), one.requests, one.input_tokens, one.output_tokens, one.error, one.created_at,
                 one.template_id, one.cost),
            )  # fmt: skip
            connection.exec_driver_sql(
                "DELETE FROM ai_analysis WHERE id <= (SELECT max(id) FROM ai_analysis) - ?", (KEEP,)
            )

    def analysis_of(self, incident_id: int) -> ModelAnalysis | None:
        """The newest about this incident that is done; where none is, the newest that failed."""
        return self._newest("incident_id = ? AND incident_id > 0", incident_id)

    def analysis_of_shape(self, template_id: int) -> ModelAnalysis | None:
        """The same about a message shape."""
        return self._newest("template_id = ? AND template_id > 0", template_id)

    def _newest(self, test: str, number: int) -> ModelAnalysis | None:
        with self.database.reading() as connection:
            row = connection.exec_driver_sql(
                f"SELECT {_COLUMNS} FROM ai_analysis WHERE {test} ORDER BY state = 'done' DESC, id DESC LIMIT 1",
                (number,),
            ).one_or_none()
        if row is None:
            return None
        values = list(row)
        values[7], values[11] = tuple(json.loads(values[7])), bool(values[11])
        return ModelAnalysis(*values)

    def analysed(self, incident_id: int, fingerprint: str, *, template_id: int = 0) -> tuple[bool, int, int]:
        """Whether it is done for the incident or shape as it is, how often that failed, and when it was tried last."""
        with self.database.reading() as connection:
            row = connection.exec_driver_sql(
                "SELECT count(CASE WHEN state = 'done' THEN 1 END), count(CASE WHEN state = 'failed' THEN 1 END),"
                " coalesce(max(created_at), 0) FROM ai_analysis WHERE incident_id = ? AND template_id = ?"
                " AND fingerprint = ?",
                (incident_id, template_id, fingerprint),
            ).one()
        return bool(row[0]), int(row[1]), int(row[2])

    def model_use(self, since_us: int, until_us: int = (1 << 63) - 1) -> dict[str, float]:
        """Requests, tokens, questions and money since then, and until then."""
        with self.database.reading() as connection:
            row = connection.exec_driver_sql(
                "SELECT coalesce(sum(requests), 0), coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0),"
                " count(*), coalesce(sum(cost), 0.0) FROM ai_analysis"
                " WHERE created_at > ? AND created_at <= ?",
                (since_us, until_us),
            ).one()
        return dict(zip(("requests", "input_tokens", "output_tokens", "questions", "cost"), row, strict=True))
