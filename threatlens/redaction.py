"""What leaves the machine without its secrets: passwords, tokens, keys and card numbers in a log line are masked.

Stored lines stay as they are; this is for what is told to others (notifications, language models).
"""

from __future__ import annotations

import re

MASK = "***"
_NAMED = re.compile(
    r"""(?ix)\b(pass(?:word|wd|phrase)?|pwd|secret|token|api[-_]?key|access[-_]?key|client[-_]?secret|authorization|cookie
        |session(?:[-_]?id)?|otp)\b
    (["']?\s{0,3}[:=]\s{0,3}["']?)
    ((?:bearer|basic|token)\s{1,3})?
    ([^\s"',;&)}\]]{1,4096})"""
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)(\s{1,3})([A-Za-z0-9._~+/=-]{8,4096})")
_KNOWN = re.compile(
    r"\b(?:gh[pousr]_[A-Za-z0-9]{20,255}|github_pat_\w{20,255}|glpat-[\w-]{16,255}|xox[abprs]-[\w-]{10,255}"
    r"|sk-[\w-]{16,255}|AKIA[0-9A-Z]{16}|tl_[\w-]{43}|whsec_[A-Za-z0-9+/=]{16,255}"
    r"|eyJ[\w-]{6,4096}\.[\w-]{6,4096}(?:\.[\w-]{0,4096})?)"
)
_CARD = re.compile(r"(?<![\d.:-])\d(?:[ -]?\d){12,18}(?![\d.:-])")
_IN_URL = re.compile(r"(://[^\s/:@]{1,256}:)([^\s/@]{1,256})(@)")


def masked(text: str) -> str:
    """The text with "***" where a secret stood."""
    text = _NAMED.sub(lambda found: f"{found[1]}{found[2]}{found[3] or ''}{MASK}", text)
    text = _BEARER.sub(rf"\1\2{MASK}", text)
    text = _KNOWN.sub(MASK, text)
    text = _IN_URL.sub(rf"\1{MASK}\3", text)
    return _CARD.sub(lambda found: MASK if _is_card(found[0]) else found[0], text)


def _is_card(text: str) -> bool:
    """Whether the digits pass Luhn's check (ISO/IEC 7812-1)."""
    digits = [int(char) for char in text if char.isdigit()]
    odd, even = digits[-1::-2], digits[-2::-2]
    return (sum(odd) + sum(sum(divmod(2 * digit, 10)) for digit in even)) % 10 == 0
