"""The program that compiles rule files: `python -m threatlens.detectors.compiling`.

It reads paths, or objects of a path and a text, as a JSON list from standard input, and writes one JSON object per
file: its rules and problems. It is a process of its own because pySigma and the YAML of thousands of rules take
hundreds of megabytes, which it gives back by ending.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from threatlens.detectors.compiled import MAX_BYTES, Compiled, content_digest, to_json
from threatlens.detectors.documents import Document, DocumentError, read_documents
from threatlens.detectors.rule import Problem, Rule
from threatlens.detectors.sigma import compile_document


def compile_file(path: str, content: bytes) -> Compiled:
    """Every rule of a file and what is wrong with the others."""
    try:
        documents = read_documents(content)
    except DocumentError as error:
        return [], [Problem(path, error.line, error.reason)]
    rules: list[Rule] = []
    problems: list[Problem] = []
    for document in _without_actions(documents):
        compiled = compile_document(document, path)
        if isinstance(compiled, Rule):
            rules.append(compiled)
        else:
            problems.append(compiled)
    return rules, problems


def _without_actions(documents: Iterable[Document]) -> list[Document]:
    """Documents of old rule collections: "global" goes into those that follow, "repeat" adds to the one before."""
    shared: dict[str, Any] = {}
    before: dict[str, Any] = {}
    plain = []
    for document in documents:
        action = document.value.get("action")
        value = {key: item for key, item in document.value.items() if key != "action"}
        if action == "global":
            shared = value
        elif action == "reset":
            shared = {}
        else:
            before = _merged(before if action == "repeat" else shared, value)
            plain.append(dataclasses.replace(document, value=before))
    return plain


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        known = merged.get(key)
        merged[key] = _merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged


def main() -> None:
    """Compile the files that standard input names."""
    for given in json.load(sys.stdin):
        if isinstance(given, dict):
            path, content = given["path"], given["text"].encode("utf-8", "replace")
            compiled = compile_file(path, content)
        else:
            path = given
            try:
                with open(path, "rb") as file:
                    content = file.read(MAX_BYTES + 1)
            except OSError as error:
                compiled = [], [Problem(path, 0, f"cannot be read: {error.strerror}")]
                content = b""
            else:
                compiled = compile_file(path, content)
        answer = {"path": path, "digest": content_digest(content), **to_json(compiled)}
        sys.stdout.write(json.dumps(answer, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
