"""Rules from folders, by way of a cache of what they compile to.

Files are known by their content, so that a cache can be old but not wrong; it holds data only (see rule.py). What is
not in it is compiled by a child process. The cache is a file of ours (0600) in the data folder; one that cannot be
read is made again.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
import yaml

from threatlens.detectors.compiled import COMPILER, MAX_BYTES, Compiled, content_digest, from_json
from threatlens.detectors.engine import Tables
from threatlens.detectors.rule import Problem, Rule, RuleSet

MAX_FILES = 20_000
_SUFFIXES = (".yml", ".yaml")
_HERE = os.path.dirname(os.path.abspath(__file__))
#: The rules that ThreatLens ships.
BUILTIN = os.path.join(os.path.dirname(_HERE), "rules")


def load_tables() -> Tables:
    """The data files beside this module."""
    logsources = _table("logsources.yml")
    return Tables(logsources, _table("fields.yml"), _table("everyday.yml"))


def _table(name: str) -> Any:
    with open(os.path.join(_HERE, name), encoding="utf-8") as file:
        return yaml.safe_load(file)


def rule_files(root: str) -> list[str]:
    """The rule files of a folder and below, in order; of a file itself."""
    return _walk(root)[0]


def _walk(root: str) -> tuple[list[str], list[Problem]]:
    """Rule files, and what looks like one and is not read: a link that leads out of the folder, a pipe."""
    if os.path.isfile(root):
        return [root], []
    real_root = os.path.join(os.path.realpath(root), "")
    found: list[str] = []
    refused: list[Problem] = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = os.path.join(folder, name)
            if not name.lower().endswith(_SUFFIXES) or name.startswith("."):
                continue
            if not os.path.realpath(path).startswith(real_root):
                refused.append(Problem(path, 0, "is a link that leads out of the folder of rules; copy the file"))
            elif os.path.isfile(path):
                found.append(path)
            else:
                refused.append(Problem(path, 0, "is not a regular file"))
    return found, refused


def load_rules(roots: Sequence[str], *, cache: str | None = None) -> RuleSet:
    """The rules of these folders or files. `cache`: a file to keep what they compile to; None keeps nothing.

    Where two rules have one id, the one of the earlier root stays and the other is a problem.
    """
    problems: list[Problem] = []
    paths: list[str] = []
    for root in roots:
        if not os.path.exists(root):
            problems.append(Problem(root, 0, "does not exist"))
            continue
        found_paths, refused = _walk(root)
        paths.extend(found_paths)
        problems.extend(refused)
    if len(paths) > MAX_FILES:
        problems.append(Problem(roots[0], 0, f"has {len(paths):,} rule files; the first {MAX_FILES:,} are read"))
        del paths[MAX_FILES:]
    known = _read_cache(cache) if cache else {}
    digests: dict[str, str] = {}
    for path in paths:
        try:
            with open(path, "rb") as file:
                digests[path] = content_digest(file.read(MAX_BYTES + 1))
        except OSError as error:
            problems.append(Problem(path, 0, f"cannot be read: {error.strerror}"))
    unknown = [path for path, digest in digests.items() if digest not in known]
    if unknown:
        for path, digest, answer in _compile(unknown):
            digests[path] = digest
            known[digest] = answer
    rules: list[Rule] = []
    for path, digest in digests.items():
        found, wrong = _decoded(known, digest, path)
        rules.extend(found)
        problems.extend(wrong)
    if cache and (unknown or len(known) > len(digests)):
        _write_cache(cache, {digest: known[digest] for digest in digests.values() if digest in known})
    kept, doubles = _without_doubles(rules)
    return RuleSet(tuple(kept), (*problems, *doubles))


def compile_text(text: str, path: str) -> Compiled:
    """What a text would load as if it stood in the file `path`; nothing is read or kept."""
    for _, _, answer in _compile([{"path": path, "text": text}]):
        return from_json(answer, path)
    return [], [Problem(path, 0, "could not be compiled: the compiler stopped")]


def _decoded(known: dict[str, Any], digest: str, path: str) -> Compiled:
    answer = known.get(digest)
    if answer is None:
        return [], [Problem(path, 0, "could not be compiled: the compiler stopped")]
    try:
        return from_json(answer, path)
    except (KeyError, TypeError, ValueError, AttributeError):
        known.pop(digest)
        return [], [Problem(path, 0, "the cache of compiled rules is damaged; it is made again at the next start")]


def _without_doubles(rules: Iterable[Rule]) -> tuple[list[Rule], list[Problem]]:
    kept: dict[str, Rule] = {}
    doubles = []
    for rule in rules:
        first = kept.setdefault(rule.id, rule)
        if first is not rule:
            where = f"{first.path}:{first.line}"
            doubles.append(
                Problem(rule.path, rule.line, f"has the id {rule.id} of the rule in {where}", rule.id, rule.name)
            )
    return list(kept.values()), doubles


def _compile(files: Sequence[str | dict[str, str]]) -> Iterable[tuple[str, str, Any]]:
    """Have files, or texts, compiled by a process of their own: (path, digest, answer) of each."""
    package = os.path.dirname(os.path.dirname(_HERE))
    environ = {**os.environ, "PYTHONPATH": package}
    done = subprocess.run(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", COMPILER],
        input=json.dumps(files).encode(),
        capture_output=True,
        env=environ,
        check=False,
    )
    for line in done.stdout.splitlines():
        with contextlib.suppress(ValueError, KeyError):
            answer = orjson.loads(line)
            yield answer.pop("path"), answer.pop("digest"), answer


def _read_cache(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_uid != os.geteuid():
                return {}
            found = orjson.loads(file.read())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_cache(path: str, answers: dict[str, Any]) -> None:
    """Put the cache in place whole or not at all; without one the rules are compiled again."""
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".rules-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(orjson.dumps(answers))
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
