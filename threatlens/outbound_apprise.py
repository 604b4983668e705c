"""Telling by Apprise: some 130 services, each with a protocol of its own, none of which our HTTP client speaks.

The library runs in a process of its own (outbound_apprise_child.py), whose every connection is checked when it is made,
by the same rules as ours. That process has no environment and ends in time. The service's URL is a secret: it travels
on standard input, and what comes back is masked.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass

import certifi

from threatlens.handing_over import Note as Noted
from threatlens.outbound_urls import Permissions
from threatlens.receiving import receive_into

TIMEOUT_S = 25
_SAID_BYTES = 65_536
_END_S = 2  # for the process to end once it has said everything
#: The program: it finds our package where we are, whatever folder it is started in.
PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from threatlens.outbound_apprise_child import main; main()"
_PACKAGES = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@dataclass(frozen=True, slots=True)
class Note:
    """What a service is told."""

    title: str
    body: str
    kind: str  # info, success, warning, failure
    attachment: tuple[str, str, bytes] | None = None  # name, media type, content; for services that take files


@dataclass(frozen=True, slots=True)
class Told:
    """What came of it."""

    delivered: bool
    problem: str  # why not, one sentence without secrets
    final: bool  # trying again cannot help
    status: int  # of the service's answer; 0: not known
    transcript: tuple[str, ...]


def tell(
    url: str, note: Note, permissions: Permissions, *, timeout_s: float = TIMEOUT_S, noted: Noted | None = None
) -> Told:
    """Tell one service, in a process of its own. `noted` gets how that process begins to say what came of it.

    Whether all was handed over is not known: a service may ask for several requests, in a process that is not ours.
    """
    name, media, content = note.attachment or ("", "", b"")
    order = {
        "url": url, "title": note.title, "body": note.body, "kind": note.kind,
        "networks": [str(network) for network in permissions.networks], "ports": sorted(permissions.ports),
        "file": [name, media, base64.b64encode(content).decode()] if content else None,
    }  # fmt: skip
    command = [sys.executable, "-I", "-B", "-c", PROGRAM, _PACKAGES]
    ours, theirs = socket.socketpair()
    with ours, theirs, subprocess.Popen(  # noqa: S603  (our own module; nothing that others wrote is in the command)
        command, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.DEVNULL, env=_environment(), cwd="/"
    ) as process:  # fmt: skip
        theirs.close()
        try:
            said = _conversation(ours, json.dumps(order).encode(), timeout_s, noted.room if noted else memoryview(b""))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_S)
        except TimeoutError:
            return Told(False, "the service gave no whole answer in time", False, 0, ())
        finally:
            process.kill()
    try:
        found = json.loads(said)
        return Told(**{**found, "transcript": tuple(found["transcript"])})
    except (ValueError, LookupError, TypeError):
        return Told(False, f"the program that tells services ended with {process.returncode}", False, 0, ())


def _conversation(ours: socket.socket, order: bytes, timeout_s: float, room: memoryview) -> bytes:
    """Send the order and receive what is said, until there is no more. Raises TimeoutError."""
    until = time.monotonic() + timeout_s
    said = b""
    with contextlib.suppress(ConnectionError, BrokenPipeError):  # it ended early
        ours.settimeout(timeout_s)
        ours.sendall(order)
        ours.shutdown(socket.SHUT_WR)
        while (left_s := until - time.monotonic()) > 0:
            into = room[len(said) :] or memoryview(bytearray(_SAID_BYTES))
            n = receive_into(ours, into, left_s)
            if n == 0:
                return said
            said += into[:n]
        raise TimeoutError
    return said


def _environment() -> dict[str, str]:
    """No proxies, no settings of anybody; the system's certificate authorities, so that an operator's own are known."""
    paths = ssl.get_default_verify_paths()
    authorities = paths.cafile or paths.capath or certifi.where()
    return {"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": "/nonexistent", "REQUESTS_CA_BUNDLE": authorities}
