"""The list of shipped rules in docs/rules.md: `python -m threatlens.rulebook > docs/rules.md`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent / "rules"
_HEAD = """# Rules

ThreatLens ships {rules} Sigma rules, {correlations} of them correlations. They are in `threatlens/rules/`, one file per
subject, in Sigma's own format with one more key, `threatlens:`, which holds what a person reads (`explanation`,
`recommendations`) and what the test suite tries (`matching`, `decoys`: lines, or lists of lines that arrive one after
the other). Documents without that key are steps of the correlations beside them and tell of nothing themselves.

Levels: *critical* is a break-in that very likely succeeded, *high* needs somebody today, *medium* is an attack under
way that has not succeeded as far as the log tells, *low* is worth a look when there is time, *informational* is a note.

"""
_TABLE = "| rule | level | technique | needs | id |\n|---|---|---|---|---|\n"


def documents(folder: Path = FOLDER) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Every document of every rule file, with the file's path below the folder."""
    for path in sorted(folder.rglob("*.yml")):
        with path.open(encoding="utf-8") as text:
            for document in yaml.load_all(text, Loader=yaml.CSafeLoader):
                yield path.relative_to(folder), document


def as_markdown() -> str:
    """The whole page."""
    rules = [(path, document) for path, document in documents() if "threatlens" in document]
    counts = Counter(path.parts[0] for path, _ in rules)
    page = [_HEAD.format(rules=len(rules), correlations=sum("correlation" in document for _, document in rules))]
    subject = ""
    for path, document in rules:
        if path.parts[0] != subject:
            subject = path.parts[0]
            page.append(f"\n## {subject} ({counts[subject]})\n\n{_TABLE}")
        page.append(
            f"| [{document['title']}](../threatlens/rules/{path.as_posix()}) | {document['level']} "
            f"| {_techniques(document)} | {_needs(document)} | `{document['id']}` |\n"
        )
    return "".join(page)


def _techniques(document: Mapping[str, Any]) -> str:
    return ", ".join(tag[7:].upper() for tag in document["tags"] if tag.startswith("attack.t") and tag[8].isdigit())


def _needs(document: Mapping[str, Any]) -> str:
    if "correlation" not in document:
        return "logs of " + " ".join(document["logsource"].values())
    correlation = document["correlation"]
    counted = correlation.get("condition", {})
    by = " and ".join(f"`{field}`" for field in correlation.get("group-by", ()))
    if correlation["type"] == "event_count":
        what = f"{counted['gte']} events"
    elif correlation["type"] == "value_count":
        what = f"{counted['gte']} values of `{counted['field']}`"
    else:
        what = f"{len(correlation['rules'])} steps"
    return f"{what} within {correlation['timespan']}" + (f" by {by}" if by else "")


if __name__ == "__main__":
    sys.stdout.write(as_markdown())
