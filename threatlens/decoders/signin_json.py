"""Refused sign-ins in JSON, or pairs, of programs that nobody has described yet.

Asked last, when no product has known the object. The message must begin as such sentences do and say that a sign-in
failed; the address is that of a member with a usual name, which the program filled, else the only one of the sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from threatlens.decoders import signin
from threatlens.decoders.base import ADDRESSES, ObjectDecoder, ReadObject, compiled
from threatlens.decoders.product import put_endpoint, text_of
from threatlens.event import Fields

_BEGINNINGS = frozenset(
    ("auth", "authentication", "bad", "failed", "incorrect", "invalid", "login", "logon", "password", "rejected",
     "sign-in", "signin", "unauthorized", "unsuccessful", "user", "wrong")
)  # fmt: skip
_ADDRESSES = (
    "client_ip", "clientIp", "clientIP", "remote_ip", "remoteIp", "remote_addr", "remoteAddr", "remote_address",
    "remoteAddress", "source_ip", "sourceIp", "src_ip", "ip", "ip_address", "ipAddress", "src", "remote", "client",
)  # fmt: skip
_USERS = ("username", "user", "userName", "user_name", "account", "login", "email")
_MAX_CHARS = 300
_SAID = compiled(
    r"\bfor (?:an? )?(?:invalid |unknown )?(?:user |account )?['\"`]?(\w[\w@.+\\-]{0,127})['\"`]?[.!]?$"
).search


def _reading(member: str) -> ReadObject:
    def read(document: Mapping[str, Any], fields: Fields) -> str | None:
        text = document.get(member)
        if not isinstance(text, str) or len(text) > _MAX_CHARS or "event.outcome" in fields:
            return None
        if text.partition(" ")[0].strip("[]:").lower() not in _BEGINNINGS or not signin.is_refusal(text):
            return None
        found: Fields = {}
        value: Any
        for name in _ADDRESSES:
            value = document.get(name)
            if isinstance(value, str) and value:
                put_endpoint(found, "source", value)
                if "source.ip" in found:
                    _take(fields, name)
                    break
        else:
            if not signin.found_in(text, found) and "source.ip" not in fields:
                return None
        values = (document.get(name) for name in _USERS)
        user = next((text_of(each) for each in values if isinstance(each, str) and each), "")
        said = _SAID(text) if not user and "user.name" not in found else None
        if user or said is not None:
            found["user.name"] = user or (said[1].rstrip(".") if said is not None else "")
        for name in _USERS:
            if document.get(name) == user:
                _take(fields, name)
        found.pop("source.address", None)
        if ADDRESSES[str(found.get("user.name", ""))]:
            del found["user.name"]
        fields |= {**found, "event.category": "authentication", "event.action": "login", "event.outcome": "failure"}
        return ""

    return read


def _take(fields: Fields, name: str) -> None:
    """The member has its place; it need not stand where unknown ones do."""
    for prefix in ("json.", "logfmt."):
        fields.pop(prefix + name, None)


DECODERS = tuple(
    ObjectDecoder(
        name=f"signin.{name}",
        about=f"A refused sign-in in JSON or pairs of any program, said in `{name}`.",
        keys=(name,),
        read=_reading(name),
    )
    for name in ("message", "msg")
)
