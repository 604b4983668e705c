"""docs/configuration.md against the code."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from threatlens.config import LogSourceConfig, MonitoringConfig
from threatlens.config_schema import DOCUMENT_KEYS, SOURCE_KEYS
from threatlens.config_values import (
    AnswerConfig,
    AppriseChannel,
    EmailChannel,
    LlmConfig,
    NotificationRule,
    Retention,
    SlackChannel,
    SmtpServer,
    WebhookChannel,
)

DOCS = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "value",
    [MonitoringConfig, LogSourceConfig, Retention, AnswerConfig, NotificationRule, LlmConfig, EmailChannel,
     AppriseChannel, SlackChannel, WebhookChannel, SmtpServer],
)  # fmt: skip
def test_every_field_is_documented(value):
    missing = [field.name for field in dataclasses.fields(value) if f"`{field.name}`" not in DOCS]
    assert missing == []


def test_every_key_has_a_row_and_no_row_is_without_a_key():
    keys = DOCS.partition("## Keys")[2]
    documented = set(re.findall(r"^\| `(\w+)` \|", keys.partition("### Sources")[0], re.MULTILINE))
    assert documented == set(DOCUMENT_KEYS)
    sources = keys.partition("### Sources")[2].partition("###")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", sources, re.MULTILINE)) == set(SOURCE_KEYS)


def test_the_defaults_in_the_tables_are_those_of_the_code():
    row = dict(re.findall(r"^\| `(\w+)` \|(.*)\|$", DOCS, re.MULTILINE))
    config = MonitoringConfig()
    for name in ("processing_batch_size", "max_queue_size", "health_check_interval"):
        assert row[name].rpartition("|")[2].strip() == str(getattr(config, name))
    for field in dataclasses.fields(Retention):
        assert row[field.name].rpartition("|")[2].strip() == str(getattr(config.retention, field.name))
    source = LogSourceConfig(0, "", "")
    for name in ("format", "start_at", "polling_interval", "timezone", "encoding", "priority"):
        assert row[name].rpartition("|")[2].strip("` ") == str(getattr(source, name))


def test_the_example_loads_without_a_mistake(machine):
    example = DOCS.partition("```yaml\n")[2].partition("```")[0]
    machine.write(example)
    manager = machine.manager()
    config = manager.load_config()
    assert manager.errors == []
    assert manager.warnings == []
    assert [source.source_name for source in config.sources] == ["auth", "web", "apps"]
    assert [channel.type for channel in config.channels] == ["email", "webhook", "slack"]
    assert config.retention == Retention()
    assert len(config.notification_rules) == 1


def test_every_top_level_key_stands_in_the_example():
    example = DOCS.partition("```yaml\n")[2].partition("```")[0]
    assert set(re.findall(r"^(\w+):", example, re.MULTILINE)) == set(DOCUMENT_KEYS) - {"allow_root_filesystem"}
