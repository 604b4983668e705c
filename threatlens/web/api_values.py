"""Kinds of values that go into the API, described in its document as exactly as they are checked.

The patterns are read by Python, by pydantic (Rust) and by whatever reads the document (ECMAScript), so they hold
nothing in which those differ: no \\d, \\s or \\w, no looking ahead.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from threatlens.visible import UNPLAIN

_YEAR = "([0-9]{3}[1-9]|[0-9]{2}[1-9][0-9]|[0-9][1-9][0-9]{2}|[1-9][0-9]{3})"
_LEAP_YEAR = "([0-9]{2}(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)"
_DAY = (
    f"({_YEAR}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)"
    f"|02-(0[1-9]|1[0-9]|2[0-8]))|{_LEAP_YEAR}-02-29)"
)
_OFFSET = "(Z|[+-]([01][0-9]|2[0-3]):?[0-5][0-9])"
_CLOCK = f"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.,][0-9]{{1,6}})?)?{_OFFSET}?"

#: A day as it is written: every one that there is, none that there is not.
DAY = f"^{_DAY}$"
#: A relative time, a day, or a day with a time; or nothing.
TIME = f"^(-?[0-9]{{1,9}}[smhdw]|{_DAY}([T ]{_CLOCK})?)?$"
#: A query: what is wrong with one beyond its characters no pattern says; docs/api.md has the language.
QUERY = r"^[^\u0000-\u0008\u000e-\u001b]*$"

#: A name of something: seen as it is, one line, no blank at either end.
Name = Annotated[
    str, Field(min_length=1, max_length=100, pattern=f"^[^ {UNPLAIN}]([^{UNPLAIN}]*[^ {UNPLAIN}])?$")
]  # fmt: skip
#: A name that something was given elsewhere, by somebody else.
PlainText = Annotated[str, Field(min_length=1, max_length=100, pattern=f"^[^{UNPLAIN}]+$")]
#: Letters of an account's name, as they are typed.
AccountName = Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$")]
#: Two times of a day.
Hours = Annotated[str, Field(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]$")]
#: Of one receiver.
_ATOM = f'[^@ .()<>\\[\\]:;,\\\\"{UNPLAIN}]+'
MailAddress = Annotated[
    str, Field(max_length=254, pattern=f"^{_ATOM}(\\.{_ATOM})*@{_ATOM}(\\.{_ATOM})*$")
]  # fmt: skip
#: An address on the web, without a user in it; whether it may be called is for this installation to say (409).
Url = Annotated[str, Field(max_length=2_000, pattern=f"^https?://[^/?#@\\\\ {UNPLAIN}]+([/?#][^\\\\ {UNPLAIN}]*)?$")]
#: What is never shown again.
SecretText = Annotated[str, Field(min_length=1, max_length=4_096, description="write-only")]
Level = Annotated[int, Field(ge=1, le=10)]
