"""Kinds of rules: Sigma rules and correlations over decoded events.

The way of a rule: documents.py reads its YAML, sigma.py compiles it to data (rule.py), loading.py finds it in a folder
or in the cache, linking.py connects it with others, predicates.py makes a function of it, buckets.py asks it only when
it may match, correlation.py counts. engine.py is the whole; explain.py says why, samples.py tries a rule's own samples,
lists.py and threats.py are about lists of the user.
"""

from __future__ import annotations

from threatlens.detectors.engine import DetectionEngine, Detections, Tables
from threatlens.detectors.explain import Trace, backtest, trace, verdict_of
from threatlens.detectors.loading import BUILTIN, compile_text, load_rules, load_tables
from threatlens.detectors.rule import Problem, Rule, RuleSet

#: What the engine runs.
DETECTORS = ("rule", "correlation")

__all__ = [
    "BUILTIN",
    "DETECTORS",
    "DetectionEngine",
    "Detections",
    "Problem",
    "Rule",
    "RuleSet",
    "Tables",
    "Trace",
    "backtest",
    "compile_text",
    "load_rules",
    "load_tables",
    "trace",
    "verdict_of",
]
