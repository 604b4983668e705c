"""The process that Apprise runs in: it reads one order from standard input, tells a service, and says what came of it.

Before anything is told an audit hook is put in place, which no code in the process can take off: connections go to
allowed addresses alone, and nothing is started. No file is written and no redirect followed.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import logging
import re
import resource
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

import apprise
from apprise.attachment.memory import AttachMemory

from threatlens.outbound_urls import Permissions, address_refusal

MEMORY_BYTES, CPU_S = 1 << 30, 25
HERE = "it may reach nothing on this machine"
#: What a process could be started with.
_STARTS = ("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "pty.")
_STATUS = re.compile(r"error=(\d{3})\b")
_SHORTEST_SECRET = 4
_LINES, _CHARACTERS = 20, 200


class RefusedError(PermissionError):
    """What the hook raises: libraries know how to fail by it."""


def main() -> None:
    """Read an order from standard input, tell the service, and write what came of it to standard output."""
    order = json.load(sys.stdin)
    for limit, value in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_CPU, CPU_S),
                         (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):  # fmt: skip
        resource.setrlimit(limit, (value, value))
    networks = tuple(map(ipaddress.ip_network, order["networks"]))
    calls: list[str] = []
    refused: list[str] = []
    sys.addaudithook(guard(Permissions(networks, frozenset(order["ports"])), calls, refused))
    result = _told(order, calls, refused)
    json.dump(result, sys.stdout)
    sys.stdout.flush()  # at once: it is the answer that is noted


def guard(
    permissions: Permissions, calls: list[str], refused: list[str]
) -> Callable[[str, tuple[Any, ...]], None]:  # fmt: skip
    """An audit hook that lets connections go to allowed addresses alone, and starts nothing."""

    def check(event: str, values: tuple[Any, ...]) -> None:
        if event.startswith(_STARTS):
            _refuse("it may start no program", refused)
        elif event.startswith("syslog."):
            _refuse(HERE, refused)
        elif event in ("socket.connect", "socket.sendto", "socket.sendmsg") and values[1] is not None:
            _check_address(values[0].family, values[1], permissions, refused)
            calls.append(f"> to {values[1][0]}, port {values[1][1]}")

    return check


def _check_address(family: int, address: Any, permissions: Permissions, refused: list[str]) -> None:
    if family not in (socket.AF_INET, socket.AF_INET6):
        _refuse(HERE, refused)
    try:
        literal = ipaddress.ip_address(str(address[0]).partition("%")[0])
    except ValueError:
        _refuse("it may only reach what has an address", refused)
    else:
        if reason := address_refusal(literal, int(address[1]), permissions):
            _refuse(reason, refused)


def _refuse(reason: str, refused: list[str]) -> None:
    refused.append(reason)
    raise RefusedError(reason)


def _told(order: Mapping[str, Any], calls: list[str], refused: list[str]) -> dict[str, Any]:
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("apprise")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.WARNING)
    asset = apprise.AppriseAsset(
        app_id="ThreatLens", app_desc="ThreatLens", app_url="", async_mode=False, http_redirects=False,
        storage_mode=apprise.PersistentStoreMode.MEMORY,
    )  # fmt: skip
    service = apprise.Apprise.instantiate(order["url"], asset=asset, suppress_exceptions=True)
    if service is None:
        return _result(False, refused[-1] if refused else "Apprise knows no service by this URL", final=True)
    if not service.verify_certificate:
        return _result(False, "verify=no is refused: it would tell anybody who stands between", final=True)
    if "overflow=" not in order["url"]:
        service.overflow_mode = apprise.OverflowMode.TRUNCATE
    service.request_rate_per_sec = 0  # the outbox has limits of its own
    files = apprise.AppriseAttachment()
    if order["file"] and service.attachment_support:
        name, media, content = order["file"]
        files.add(AttachMemory(base64.b64decode(content), name=name, mimetype=media, asset=asset))  # type: ignore[no-untyped-call]
    calls.append(f"> {service.service_name}, {len(order['body'])} characters")
    teller = apprise.Apprise(asset=asset)
    teller.add(service)
    delivered = teller.notify(
        order["body"], title=order["title"], notify_type=apprise.NotifyType(order["kind"]),
        body_format=apprise.NotifyFormat.TEXT, attach=files if len(files) else None,
    )  # fmt: skip
    words = [masked(line, order["url"]) for line in said]
    transcript = [*calls, *words][:_LINES]
    status = next((int(found[1]) for line in said if (found := _STATUS.search(line))), 0)
    if delivered and any(line.startswith("> to ") for line in calls):
        return _result(True, "", transcript=[*transcript, "< taken"])
    problem = refused[-1] if refused else words[-1] if words else "the service did not take it"
    return _result(False, problem, final=bool(refused), status=status, transcript=[*transcript, "< not taken"])


def _result(
    delivered: bool, problem: str, *, final: bool = False, status: int = 0, transcript: list[str] | None = None
) -> dict[str, Any]:  # fmt: skip
    return {  # "delivered" comes first: notifications_arrived.TAKEN
        "delivered": bool(delivered), "problem": problem[:_CHARACTERS], "final": final, "status": status,
        "transcript": [line[:_CHARACTERS] for line in transcript or []],
    }  # fmt: skip


def masked(text: str, url: str) -> str:
    """The text without any part of the URL behind its scheme: each may be a password."""
    secrets = set(re.split(r"[^A-Za-z0-9_.~%+-]+", url.partition("://")[2]))
    secrets |= {unquote(each) for each in secrets}
    for secret in sorted((each for each in secrets if len(each) >= _SHORTEST_SECRET), key=len, reverse=True):
        text = text.replace(secret, "***")
    return " ".join(text.split())
