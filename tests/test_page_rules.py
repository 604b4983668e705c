"""What templates and our scripts must not hold: whatever could turn a log line into code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
JINJA = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
TEMPLATE_RULES = {  # over the whole text
    r"\|\s*safe\b": "|safe: let the template escape",
    r"autoescape\s+false": "autoescape false: let the template escape",
}
MARKUP_RULES = {  # over the text without Jinja's own
    r"\sstyle\s*=": "style=: the content security policy refuses it; use a class",
    r"<style\b": "<style>: it belongs into the stylesheet",
    r"\son[a-z]+\s*=": "an on... handler: bind it in the script",
    r"\b(data-)?hx-on\b": "hx-on: it needs eval; bind it in the script",
    r"javascript:": "javascript: link",
    r"hx-(vals|headers|vars)\s*=\s*[\"']js:": "js: values need eval",
    r"<script\b(?![^>]*\bsrc\s*=)": "an inline script: it belongs into static/",
    r"<script\b[^>]*>\s*[^<\s]": "a script with a body: it belongs into static/",
    r"(src|href)\s*=\s*[\"']?(https?:)?//[\w.-]+/[\w./-]*\.(js|css|woff2?)": "a file from elsewhere: vendor it",
}
SCRIPT_RULES = {
    r"\.(inner|outer)HTML\b": "innerHTML: use textContent, or let htmx swap what the server rendered",
    r"insertAdjacentHTML|document\.write|DOMParser": "text becomes markup: use textContent",
    r"\beval\s*\(|new\s+Function\b": "it runs text as code",
}


def complaints_of(path: str, text: str, rules: dict[str, str]) -> Iterator[str]:
    for pattern, complaint in rules.items():
        for match in re.finditer(pattern, text):
            yield f"{path}:{text.count(chr(10), 0, match.start()) + 1}: {complaint}"


def page_complaints(path: str, text: str) -> list[str]:
    markup = JINJA.sub(lambda match: "x" + "\n" * match.group().count("\n"), text)
    return [*complaints_of(path, text, TEMPLATE_RULES), *complaints_of(path, markup, MARKUP_RULES)]


def test_templates_hold_no_code_and_escape_everything() -> None:
    complaints: list[str] = []
    for path in sorted((ROOT / "templates").rglob("*.*")):
        complaints += page_complaints(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))

    assert not complaints, "\n" + "\n".join(complaints)


def test_our_scripts_never_turn_text_into_markup() -> None:
    complaints: list[str] = []
    for path in sorted((ROOT / "static").rglob("*.js")):
        if "vendor" not in path.parts:
            complaints += complaints_of(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"), SCRIPT_RULES)

    assert not complaints, "\n" + "\n".join(complaints)


@pytest.mark.parametrize(
    "text",
    [
        "{{ event.raw|safe }}",
        "{% autoescape false %}",
        '<p style="color: red">',
        '<a onclick="x()">',
        '<a\nonmouseover = "x()">',
        '<div hx-on:click="x()">',
        "<script>alert(1)</script>",
        '<script src="/static/a.js">alert(1)</script>',
        '<script src="https://cdn.example.org/a.js"></script>',
        "<style>p {}</style>",
    ],
)
def test_the_page_rules_see_a_violation(text: str) -> None:
    assert page_complaints("templates/a.html", text)


def test_the_page_rules_allow_what_is_meant() -> None:
    text = """{% set only = 1 %}<a class="x" href="https://example.org/">{{ a|safest }}</a>
        <script src="/static/a.js"></script>"""

    assert not page_complaints("templates/a.html", text)
    assert list(complaints_of("static/a.js", "row.innerHTML = text", SCRIPT_RULES))
    assert not list(complaints_of("static/a.js", "row.textContent = text", SCRIPT_RULES))
