"""From a Sigma document to a compiled rule. pySigma parses; what it has parsed becomes data (see rule.py).

pySigma is large, so that this module is imported by the program that compiles rules (compiling.py) and by nobody else.
What pySigma raises names no line: the line is looked up from the words of its message.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionIdentifier,
    ConditionNOT,
    ConditionOR,
    ConditionSelector,
    ConditionValueExpression,
)
from sigma.correlations import (
    CorrelationConditionAND,
    CorrelationConditionNOT,
    CorrelationConditionOR,
    SigmaCorrelationCondition,
    SigmaCorrelationRule,
    SigmaExtendedCorrelationCondition,
    SigmaRuleReference,
)
from sigma.exceptions import SigmaConditionError, SigmaError
from sigma.filters import SigmaFilter
from sigma.policy import SigmaPolicy
from sigma.policy.regex_engine import PythonRegexEngine, RegexPattern
from sigma.rule import SigmaDetections, SigmaRule
from sigma.types import (
    Placeholder,
    SigmaBool,
    SigmaCasedString,
    SigmaCIDRExpression,
    SigmaCompareExpression,
    SigmaExists,
    SigmaExpansion,
    SigmaFieldReference,
    SigmaNull,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaRegularExpressionFlag,
    SigmaString,
    SigmaTimestampPart,
    SpecialChars,
)

from threatlens.detectors.documents import Document
from threatlens.detectors.patterns import refusal
from threatlens.detectors.rule import Correlation, LogSource, Problem, Rule, Tree
from threatlens.detectors.values import text_test
from threatlens.event import LEVEL_SEVERITIES

MAX_TIMESPAN_S = 366 * 86_400
MAX_NUMBER = 1_000_000_000
MAX_VALUES = 100_000
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_FLAGS = {
    SigmaRegularExpressionFlag.IGNORECASE: "i",
    SigmaRegularExpressionFlag.MULTILINE: "m",
    SigmaRegularExpressionFlag.DOTALL: "s",
}
_KEYS = frozenset({
    "title", "id", "name", "related", "status", "description", "references", "author", "date", "modified", "tags",
    "logsource", "detection", "correlation", "filter", "fields", "falsepositives", "level", "license", "scope",
    "taxonomy", "action", "regression_tests_path", "simulation", "threatlens",
})  # fmt: skip


class _AnyPattern(PythonRegexEngine):
    """Lets pySigma take every pattern: which can run is ours to say (patterns.py)."""

    def compile(self, pattern: str, flags: int = 0) -> RegexPattern:
        try:
            return super().compile(pattern, flags)
        except re.error:
            return super().compile("")


class _Wrong(Exception):
    """The document is no rule; `near` is a word of the line to show."""

    def __init__(self, reason: str, near: str = "", *, broken: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.near = near
        self.broken = broken


def compile_document(document: Document, path: str) -> Rule | Problem:
    """One document as a rule, a correlation or a filter; a problem if it is none or cannot run."""
    value = document.value
    rule_id, title = _word(value.get("id")), _word(value.get("title"))
    try:
        return _compile(document, path)
    except _Wrong as error:
        line = document.line_of(error.near, "detection" if error.near else "")
        return Problem(path, line, error.reason, rule_id, title, error.broken)
    except SigmaError as error:
        reason = " ".join(str(error).split())
        quoted = re.search(r"'\s?([^']+?)\s?'", reason)
        near = "condition" if isinstance(error, SigmaConditionError) else quoted[1] if quoted else ""
        line = document.line_of(near, "correlation" if "correlation" in value else "detection")
        return Problem(path, line, reason, rule_id, title, "pipe syntax" not in reason)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        # pySigma meets a value of a type that it does not expect.
        return Problem(path, document.line, f"is not a Sigma rule: {error}", rule_id, title)


def _word(value: object) -> str:
    return value[:200] if isinstance(value, str) else ""


def _compile(document: Document, path: str) -> Rule:
    value = document.value
    kind = "correlation" if "correlation" in value else "filter" if "filter" in value else "rule"
    for key in value:
        if key not in _KEYS and kind == "rule" and key in {"detections", "log_source", "condition", "conditions"}:
            raise _Wrong(f"{key!r} is no key of a Sigma rule", key)
    if kind == "rule" and not {"detection", "logsource", "title"} & set(value):
        raise _Wrong("is no Sigma rule: it has neither title nor detection", broken=False)
    title = value.get("title")
    if not isinstance(title, str) or not title.strip():
        raise _Wrong("has no title")
    reference = value.get("name") or ""
    if not isinstance(reference, str) or (reference and not _ID.fullmatch(reference)):
        raise _Wrong("name must be letters, digits, '-', '_' and '.', at most 100", "name")
    rule_id = value.get("id", reference)
    if not rule_id:
        raise _Wrong("has no id: add `id:` with a UUID", "title")
    if not isinstance(rule_id, str) or not _ID.fullmatch(rule_id):
        raise _Wrong("id must be a UUID", "id")
    level = value.get("level", "informational" if kind == "filter" else "medium")
    if level not in LEVEL_SEVERITIES:
        raise _Wrong(f"level is {level!r}; it must be one of {', '.join(LEVEL_SEVERITIES)}", "level")
    plain = _plain(value)
    logsource, tree, correlation = LogSource(), b"", None
    lists: tuple[str, ...] = ()
    applies_to: tuple[str, ...] | None = None
    if kind == "correlation":
        correlation = _correlation(SigmaCorrelationRule.from_dict(plain))
        status = plain.get("status")
    else:
        if kind == "filter":
            parsed: Any = SigmaFilter.from_dict(plain, policy=SigmaPolicy(_AnyPattern()))
            named = parsed.filter.rules
            applies_to = None if isinstance(named, str) else tuple(each.reference for each in named)
            detections = parsed.filter
        else:
            if "detection" not in plain:
                raise _Wrong("has no detection", "title")
            parsed = SigmaRule.from_dict(plain, policy=SigmaPolicy(_AnyPattern()))
            detections = parsed.detection
        logsource = LogSource(*(_lower(each) for each in (
            parsed.logsource.product, parsed.logsource.category, parsed.logsource.service)))  # fmt: skip
        status = plain.get("status")
        built = _Builder()
        tree = json.dumps(built.tree(detections), separators=(",", ":"), ensure_ascii=False).encode()
        lists = tuple(sorted(built.lists))
    digest = hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:32]
    tags = tuple(str(tag) for tag in plain.get("tags") or ())
    return Rule(
        rule_id, title.strip(), reference, kind, level, str(status or ""), tags, path, document.line, digest, logsource,
        tree, lists, correlation, applies_to,
    )  # fmt: skip


def _lower(text: str | None) -> str | None:
    return text.lower() if text else None


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """The document for pySigma: without what it does not know, with the modifiers that it calls otherwise."""
    plain = {key: item for key, item in value.items() if key not in {"threatlens", "action", "id"}}
    if isinstance(value.get("id"), str) and re.fullmatch(
        r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", value["id"]
    ):
        plain["id"] = value["id"]
    for key in ("date", "modified"):
        plain.pop(key, None)
    if not plain.get("tags"):
        plain.pop("tags", None)
    for key in ("detection", "filter"):
        if key in plain:
            plain[key] = _with_known_modifiers(plain[key])
    return plain


def _with_known_modifiers(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            "|".join("wide" if part == "utf16le" else part for part in key.split("|")): _with_known_modifiers(item)
            if isinstance(item, dict | list)
            else item
            for key, item in ((str(key), item) for key, item in value.items())
        }
    if isinstance(value, list):
        return [_with_known_modifiers(item) if isinstance(item, dict | list) else item for item in value]
    return value


class _Builder:
    """Makes the tree of one rule."""

    def __init__(self) -> None:
        self.lists: set[str] = set()
        self._values = 0

    def tree(self, detections: SigmaDetections) -> Tree:
        """The conditions of the rule; any of them is enough."""
        return _joined("or", [self._condition(each.parse(False), detections) for each in detections.parsed_condition])

    def _condition(self, node: Any, detections: SigmaDetections) -> Tree:
        if isinstance(node, ConditionAND):
            return _joined("and", [self._condition(item, detections) for item in node.args])
        if isinstance(node, ConditionOR):
            return _joined("or", [self._condition(item, detections) for item in node.args])
        if isinstance(node, ConditionNOT):
            return ["not", self._condition(node.args[0], detections)]
        if isinstance(node, ConditionSelector):
            names = node.resolve_referenced_detections(detections)
            if not names:
                raise _Wrong(f"'{node.args[0]} of {node.pattern}' names no selection", "condition")
            word = "and" if node.cond_class is ConditionAND else "or"
            return _joined(word, [self._selection(each.identifier, detections) for each in names])
        if isinstance(node, ConditionIdentifier):
            return self._selection(node.identifier, detections)
        raise _Wrong(f"the condition holds {type(node).__name__}", "condition")

    def _selection(self, name: str, detections: SigmaDetections) -> Tree:
        try:
            parsed = detections[name].postprocess(detections)
        except KeyError as error:
            raise _Wrong(f"the condition names {name!r}, which is no selection", "condition") from error
        if parsed is None:
            raise _Wrong(f"the selection {name!r} is empty", name)
        return ["sel", name, self._detection(parsed)]

    def _detection(self, node: Any) -> Tree:
        if isinstance(node, ConditionAND | ConditionOR):
            word = "and" if isinstance(node, ConditionAND) else "or"
            return _joined(word, [self._detection(item) for item in node.args])
        if isinstance(node, ConditionNOT):
            return ["not", self._detection(node.args[0])]
        if isinstance(node, ConditionFieldEqualsValueExpression):
            return self._test(node.field, node.value)
        if isinstance(node, ConditionValueExpression):
            return self._test(None, node.value)
        raise _Wrong(f"the detection holds {type(node).__name__}")

    def _test(self, field: str | None, value: Any) -> Tree:
        self._values += 1
        if self._values > MAX_VALUES:
            raise _Wrong(f"has more than {MAX_VALUES:,} values", "detection")
        name = field.lower() if field is not None else None
        if isinstance(value, SigmaExpansion):
            return _joined("or", [self._test(field, each) for each in value.values])
        if isinstance(value, SigmaString):
            return self._text(name, value)
        if isinstance(value, SigmaBool):
            return ["eq", name, False, ["true" if value.boolean else "false"]]
        if isinstance(value, SigmaTimestampPart):
            return ["time", name, False, [[value.timestamp_part.name.lower(), value.number]]]
        if isinstance(value, SigmaNumber):
            return ["in" if name is None else "eq", name, False, [str(value.number)]]
        if isinstance(value, SigmaNull):
            return ["null", name, False, []]
        if isinstance(value, SigmaExists):
            return ["exists", name, False, bool(value)]
        if isinstance(value, SigmaRegularExpression):
            return self._regex(name, value)
        if isinstance(value, SigmaCIDRExpression):
            return ["cidr", name, False, [str(value.network)]]
        if isinstance(value, SigmaCompareExpression):
            number = value.number
            if isinstance(number, SigmaTimestampPart):
                raise _Wrong("a part of a time cannot be compared with gt, gte, lt or lte", broken=False)
            return ["cmp", name, False, [[value.op.name.lower(), number.number]]]
        if isinstance(value, SigmaFieldReference):
            both = value.starts_with and value.ends_with
            how = "in" if both else "pre" if value.starts_with else "suf" if value.ends_with else "eq"
            return ["ref", name, False, [[value.field.lower(), how]]]
        raise _Wrong(f"a value of the kind {type(value).__name__} is not known", broken=False)

    def _text(self, name: str | None, value: SigmaString) -> Tree:
        cased = isinstance(value, SigmaCasedString)
        fold: Callable[[str], str] = (lambda text: text) if cased else str.lower
        if any(isinstance(part, Placeholder) for part in value.s):
            parts: list[Any] = []
            for part in value.s:
                if isinstance(part, Placeholder):
                    self.lists.add(part.name)
                    parts.append({"list": part.name})
                else:
                    parts.append(fold(part) if isinstance(part, str) else _wildcard(part))
            return ["list", name, cased, [parts]]
        pieces = [fold(part) if isinstance(part, str) else _wildcard(part) for part in value.s]
        return text_test(name, cased, pieces)

    def _regex(self, name: str | None, value: SigmaRegularExpression) -> Tree:
        if value.contains_placeholder():
            raise _Wrong("a list in a regular expression is not supported", broken=False)
        flags = "".join(sorted(_FLAGS[flag] for flag in value.flags))
        pattern = str(value.regexp)
        if "\\*" in pattern or "\\?" in pattern:  # str() escapes wildcards that were none
            pattern = value.regexp.to_plain_regex()
        if reason := refusal(pattern, flags):
            broken = reason.startswith("is not valid")
            raise _Wrong(f"the regular expression {pattern[:80]!r} {reason}", pattern[:40], broken=broken)
        return ["re", name, True, [[pattern, flags]]]


def _wildcard(part: object) -> int:
    return 0 if part is SpecialChars.WILDCARD_MULTI else 1


_MERGED = frozenset({"eq", "pre", "suf", "in", "glob", "re", "cidr", "cmp", "ref", "time", "list"})


def _joined(word: str, trees: list[Tree]) -> Tree:
    """Trees under one "and" or "or"; of an "or", tests of one field in one way become one test."""
    flat: list[Tree] = []
    for tree in trees:
        flat.extend(tree[1] if tree[0] == word else [tree])
    if word == "or":
        kept: list[Tree] = []
        known: dict[tuple[str, str | None, bool], Tree] = {}
        for tree in flat:
            if tree[0] in _MERGED:
                test = known.get((tree[0], tree[1], tree[2]))
                if test is not None:
                    test[3] = [*test[3], *(value for value in tree[3] if value not in test[3])]
                    continue
                tree = list(tree)  # noqa: PLW2901
                known[tree[0], tree[1], tree[2]] = tree
            kept.append(tree)
        flat = kept
    return flat[0] if len(flat) == 1 else [word, flat]


def _correlation(rule: SigmaCorrelationRule) -> Correlation:
    timespan = rule.timespan.seconds
    if timespan > MAX_TIMESPAN_S:
        raise _Wrong(f"timespan must be at least 1 second and at most {MAX_TIMESPAN_S // 86_400} days", "timespan")
    aliases = {alias.alias: {each.reference: field for each, field in alias.mapping.items()} for alias in rule.aliases}
    references = tuple(each.reference for each in rule.rules or ())
    condition = rule.condition
    common: dict[str, Any] = {
        "type": rule.type.name.lower(),
        "timespan_s": timespan,
        "group_by": tuple(rule.group_by or ()),
        "aliases": aliases or None,
        "generate": rule.generate,
    }
    if isinstance(condition, SigmaExtendedCorrelationCondition):
        references = tuple(dict.fromkeys((*references, *condition.get_referenced_rules())))
        return Correlation(rules=references, expression=_expression(condition.parsed), **common)
    if not isinstance(condition, SigmaCorrelationCondition):
        raise _Wrong("the correlation has no condition", "correlation")
    if not references:
        raise _Wrong("the correlation names no rules", "correlation")
    op, number = condition.op.name.lower(), condition.count
    if common["type"].startswith("temporal"):
        op, number = "gte", len(references)
    elif common["type"] in {"event_count", "value_count"} and not (
        1 <= number <= MAX_NUMBER or (number == 0 and op in {"gt", "neq"})
    ):
        raise _Wrong(f"a count must be from 1 to {MAX_NUMBER:,}, not {number}", str(number))
    if not -MAX_NUMBER * 1_000_000 <= number <= MAX_NUMBER * 1_000_000:
        raise _Wrong(f"the number {number} is out of range", "condition")
    percentile = condition.percentile if condition.percentile is not None else 50
    if not 0 <= percentile <= 100:
        raise _Wrong("percentile must be from 0 to 100", "percentile")
    named = condition.fieldref
    fields = tuple(named) if isinstance(named, list) else (named,) if named else ()
    return Correlation(rules=references, op=op, number=number, fields=fields, percentile=percentile, **common)


def _expression(node: Any) -> Tree:
    if isinstance(node, SigmaRuleReference):
        return ["rule", node.reference]
    words = {CorrelationConditionAND: "and", CorrelationConditionOR: "or", CorrelationConditionNOT: "not"}
    return [words[type(node)], [_expression(item) for item in node.args]]
