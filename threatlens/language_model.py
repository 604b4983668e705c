"""LanguageModel: asks a language model about the worst open incidents and the most frequent unknown message shapes.

It works behind the pipeline and inside a budget, and is off unless configured. One question at a time; what fails
leaves the text of the rules, marked. It writes the table ai_analysis and nothing else, so nothing that it says can
change an incident.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from threatlens import analysis
from threatlens.analyzers import llm
from threatlens.analyzers.explain import Story
from threatlens.broadcaster import EventBroadcaster
from threatlens.config_values import LlmConfig
from threatlens.errors import ConfigError, OutboundError
from threatlens.event import EventUpdate
from threatlens.outbound import Answer, Limits
from threatlens.store import EventStore
from threatlens.store_analyses import DONE, FAILED, ModelAnalysis
from threatlens.store_incidents import Incident
from threatlens.store_reading import TemplateView

log = logging.getLogger(__name__)

HOUR_US = 3_600_000_000
#: The worst open incidents that are looked at; all others keep the text of the rules.
LOOKED_AT = 20
MIN_SEVERITY = 5
#: The most frequent shapes of lines that no decoder knows, from so many lines on; asked about when no incident waits.
SHAPES, MIN_SHAPE_LINES = 10, 20
TIMEOUT_S, RETRIES = 20.0, 2
LIMITS = Limits(total_s=TIMEOUT_S, body_bytes=262_144)
#: A question that failed is asked again after this, at most so often.
AGAIN_US, MAX_FAILURES = 15 * 60_000_000, 3
#: After so many failures in a row the model rests, twice as long each time.
BREAKER_FAILURES, BREAKER_FIRST_US, BREAKER_MAX_US = 3, 60_000_000, 1_800_000_000
_TRANSIENT = frozenset((408, 425, 429, 500, 502, 503, 504, 529))


class HttpClient(Protocol):
    """The guarded way out."""

    def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, content: bytes | None = None,
        limits: Limits | None = None,
    ) -> Answer: ...  # fmt: skip


class LanguageModel:
    """One a process. run() is for one thread; preview() and test() for any."""

    def __init__(
        self,
        store: EventStore,
        config: Callable[[], LlmConfig],
        client: HttpClient,
        broadcaster: EventBroadcaster,
        *,
        limits: Limits = LIMITS,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        nonce: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        self._store = store
        self._config = config
        self._client = client
        self._broadcaster = broadcaster
        self._limits = limits
        self._clock_us = clock_us
        self._nonce = nonce
        self._failures = 0
        self._rests_until_us = 0

    def run(self, stopped: Callable[[], bool] = lambda: False) -> int:
        """Ask about what is due; how many questions were answered."""
        config, done = self._config(), 0
        if not config.enabled:
            return 0
        for listed in self._store.pressing_incidents(LOOKED_AT):
            if stopped() or self.why_not(config):
                break
            is_asked = listed.severity >= MIN_SEVERITY and not listed.is_test
            incident = self._store.incident(listed.id) if is_asked else None
            if incident is None:
                continue
            story = analysis.story(incident)
            fingerprint = llm.fingerprint(story)
            if self._is_due(*self._store.analysed(incident.id, fingerprint)):
                row = ModelAnalysis(incident.id, fingerprint, FAILED, config.provider, config.model, llm.PROMPT_VERSION)
                done += self._ask(row, self._question(incident, story, config), config)
        for shape in self._store.templates(SHAPES):
            if stopped() or self.why_not(config):
                break
            fingerprint = llm.shape_fingerprint(shape.text)
            if shape.n >= MIN_SHAPE_LINES and self._is_due(*self._store.analysed(0, fingerprint, template_id=shape.id)):
                row = ModelAnalysis(
                    0, fingerprint, FAILED, config.provider, config.model, llm.PROMPT_VERSION, template_id=shape.id
                )
                done += self._ask(row, self._shape_question(shape, config), config)
        return done

    def _is_due(self, known: bool, failures: int, last_us: int) -> bool:
        resting = failures and 0 <= self._clock_us() - last_us < AGAIN_US
        return not (known or failures >= MAX_FAILURES or resting)

    def why_not(self, config: LlmConfig) -> str:
        """Why nothing may be asked now; "": it may."""
        now = self._clock_us()
        if 0 < self._rests_until_us - now <= BREAKER_MAX_US:  # more: the clock was put back
            return "the model failed several times in a row and rests"
        if self._store.model_use(now - HOUR_US, now)["requests"] >= config.hourly_budget:
            return "the budget of this hour is used up"
        return ""

    def preview(self, incident: Incident) -> llm.Question:
        """What would be sent about this incident now; only the random number differs."""
        return self._question(incident, analysis.story(incident), self._config())

    def test(self, config: LlmConfig) -> str:
        """Ask a harmless question; what came back, in a sentence. Raises ConfigError with the reason where it fails."""
        story = Story("192.0.2.1", "knocked", False, 0, 0, 1, 1, (), ("192.0.2.1",), (), (), ())
        asked = llm.question(story, 1, (), nonce=self._nonce(), remote=llm.is_remote(config.base_url))
        started = self._clock_us()
        try:
            text, _, _, _ = self._exchange(config, asked, retries=0)
            llm.opinion(text, asked)
        except (llm.AnswerError, OutboundError, ConfigError) as error:
            raise ConfigError(str(error)) from error
        return f"{config.model or 'The model'} answered as it should, in {(self._clock_us() - started) / 1e6:.1f} s."

    def _question(self, incident: Incident, story: Story, config: LlmConfig) -> llm.Question:
        worst = sorted(incident.members.values(), key=lambda each: (each.outcome != "success", -each.severity))
        events = [self._store.event(each.last_event_id) for each in worst[: llm.MAX_LINES]]
        lines = list(dict.fromkeys(event.raw for event in events if event is not None))
        remote = llm.is_remote(config.base_url)
        return llm.question(story, incident.severity, lines, nonce=self._nonce(), remote=remote)

    def _shape_question(self, shape: TemplateView, config: LlmConfig) -> llm.Question:
        story = Story(
            shape.source, "wrote lines of one shape that no decoder knows", False, shape.first_seen_us,
            shape.last_seen_us, 0, shape.n, (), (), (), (), (),
        )  # fmt: skip
        remote = llm.is_remote(config.base_url)
        return llm.question(
            story, 1, (shape.text, shape.sample), nonce=self._nonce(), remote=remote, system=llm.SHAPE_SYSTEM
        )

    def _ask(self, row: ModelAnalysis, asked: llm.Question, config: LlmConfig) -> int:
        """Ask, and store what of the answer holds; 1 if something does."""
        row = replace(row, talks=asked.talks)
        now = self._clock_us()
        left = int(config.hourly_budget - self._store.model_use(now - HOUR_US, now)["requests"])
        try:
            text, tokens_in, tokens_out, requests = self._exchange(config, asked, min(RETRIES, left - 1))
            cost = (tokens_in * config.input_price + tokens_out * config.output_price) / 1e6
            row = replace(row, requests=requests, input_tokens=tokens_in, output_tokens=tokens_out, cost=cost)
            held = llm.opinion(text, asked)
            row = replace(
                row, state=DONE, explanation=held.explanation, recommendations=held.recommendations,
                severity=held.severity, confidence=held.confidence, dropped=held.dropped,
            )  # fmt: skip
        except (llm.AnswerError, OutboundError, ConfigError) as error:
            row = replace(row, requests=row.requests or getattr(error, "requests", 1), error=str(error)[:300])
        self._account(row.state == DONE)
        row = replace(row, created_at=self._clock_us())
        self._store.put_analysis(row)
        about = {"template_id": row.template_id} if row.template_id else {"incident_id": row.incident_id}
        self._broadcaster.publish_update(
            EventUpdate("analysis_complete", {**about, **row.as_json()}, row.created_at, priority=3)
        )
        return int(row.state == DONE)

    def _exchange(self, config: LlmConfig, asked: llm.Question, retries: int = RETRIES) -> tuple[str, int, int, int]:
        """The answer's text, tokens in and out, requests made; raises AnswerError, OutboundError or ConfigError."""
        key = config.api_key.resolve() if config.api_key else ""
        url, headers, body = llm.request(config.provider, config.base_url, config.model, key, asked)
        for tries in range(1, retries + 2):
            try:
                answer = self._client.request("POST", url, headers=headers, content=body, limits=self._limits)
            except OutboundError as error:
                if error.permanent or tries > retries:
                    raise _counted(error, tries) from None
                continue
            if answer.ok and not answer.truncated:
                return (*llm.reply(config.provider, answer.body), tries)
            if answer.truncated:
                raise _counted(llm.AnswerError("the answer is too long"), tries)
            if answer.status not in _TRANSIENT or tries > retries:
                raise _counted(llm.AnswerError(f"it answered with status {answer.status}"), tries)
        raise llm.AnswerError("it was not asked")

    def _account(self, good: bool) -> None:
        self._failures = 0 if good else self._failures + 1
        if self._failures >= BREAKER_FAILURES:
            rest_us = BREAKER_FIRST_US * 2 ** min(self._failures - BREAKER_FAILURES, 10)
            self._rests_until_us = self._clock_us() + min(BREAKER_MAX_US, rest_us)
            log.warning("the language model failed %d times in a row and rests", self._failures)


def _counted(error: Exception, requests: int) -> Exception:
    """The same error, knowing how many requests it took."""
    error.requests = requests  # type: ignore[attr-defined]
    return error
