"""The shipped rules: what every file must hold, and that the pages and tables beside them are true."""

from __future__ import annotations

import re
from pathlib import Path
from uuid import UUID

import pytest

from threatlens import rulebook
from threatlens.attack import tactic_of, tactics, technique_of, techniques

DOCUMENTS = list(rulebook.documents())
RULES = [(path, document) for path, document in DOCUMENTS if "threatlens" in document]
LEVELS = {"informational", "low", "medium", "high", "critical"}
PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def named(path_and_document: tuple[Path, dict]) -> str:
    path, document = path_and_document
    return f"{path.with_suffix('')}: {document['title']}"


@pytest.mark.parametrize("rule", DOCUMENTS, ids=map(named, DOCUMENTS))
def test_a_document_says_what_it_is(rule):
    _, document = rule
    UUID(document["id"])
    assert document["level"] in LEVELS
    assert document["status"] == "stable"
    assert ("detection" in document) != ("correlation" in document)
    assert any(technique_of(tag) for tag in document["tags"])
    for tag in document["tags"]:
        assert technique_of(tag) or tactic_of(tag), f"{tag} is not of ATT&CK"


@pytest.mark.parametrize("rule", RULES, ids=map(named, RULES))
def test_a_rule_explains_itself_and_brings_its_samples(rule):
    _, document = rule
    ours = document["threatlens"]
    assert set(ours) == {"explanation", "recommendations", "matching", "decoys"}
    assert len(ours["explanation"].split()) >= 6
    assert ours["recommendations"]
    names = {name for text in (ours["explanation"], *ours["recommendations"]) for name in PLACEHOLDER.findall(text)}
    aliases = document.get("correlation", {}).get("aliases", {})
    assert not names & set(aliases), "an alias is no field of an event: nothing would be filled in"
    assert document["falsepositives"]
    assert ours["matching"]
    assert ours["decoys"]


def test_steps_of_correlations_are_informational_and_used():
    used = {reference for _, document in DOCUMENTS for reference in document.get("correlation", {}).get("rules", ())}
    for path, document in DOCUMENTS:
        if "threatlens" not in document:
            assert document["level"] == "informational", path
            assert {document["name"], document["id"]} & used, f"{path}: nobody uses {document['name']}"


def test_no_two_documents_share_an_id_a_name_or_a_title():
    for key in ("id", "name", "title"):
        values = [document[key] for _, document in DOCUMENTS if key in document]
        assert len(values) == len(set(values)), {value for value in values if values.count(value) > 1}


def test_every_folder_and_file_name_is_plain():
    for path, _ in DOCUMENTS:
        assert len(path.parts) in {2, 3}
        assert all(re.fullmatch(r"[a-z0-9_]+(\.yml)?", part) for part in path.parts), path


def test_samples_use_documentation_addresses():
    """192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24, private networks and a few that attacks themselves name."""
    allowed = re.compile(
        r"192\.0\.2\.|198\.51\.100\.|203\.0\.113\.|10\.|127\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|169\.254\.|0\.0\.0\.0|1\.0\.0\.|100\.64\."
    )
    address = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
    for path, document in RULES:
        for sample in (*document["threatlens"]["matching"], *document["threatlens"]["decoys"]):
            for line in sample if isinstance(sample, list) else [sample]:
                for found in address.findall(line):
                    assert allowed.match(found) or max(map(int, found.split("."))) > 255, f"{path}: {found}"


def test_the_page_of_rules_is_current():
    page = Path(__file__).parent.parent.parent / "docs" / "rules.md"
    assert page.read_text(encoding="utf-8") == rulebook.as_markdown(), (
        "run: python -m threatlens.rulebook > docs/rules.md"
    )


def test_attack_names_techniques_and_tactics():
    guessing = technique_of("attack.t1110.001")
    assert guessing is not None
    assert guessing.name == "Password Guessing"
    assert guessing.tactics == ("credential-access",)
    assert guessing.url == "https://attack.mitre.org/techniques/T1110/001/"
    assert technique_of("attack.t9999") is None
    assert technique_of("cve.2021-44228") is None
    assert tactic_of("attack.initial-access") == tactic_of("attack.initial_access") == "initial-access"
    assert tactic_of("attack.t1110") is None


def test_every_technique_serves_known_tactics():
    known = set(tactics())
    assert len(techniques()) > 600
    assert all(set(each.tactics) <= known for each in techniques().values())
