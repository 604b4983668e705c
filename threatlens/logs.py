"""ThreatLens's own log: one JSON object a line for machines, readable text on a terminal.

What is logged is data, whoever wrote it: a message is never a format by accident, control characters are escaped, and
above DEBUG a message is cut, so that no log line ends up in our log whole.
"""

from __future__ import annotations

import copy
import logging
import sys
import time
from typing import TextIO

from pythonjsonlogger.json import JsonFormatter

MAX_MESSAGE_CHARS = 1000  # above DEBUG
#: Libraries that report every step at INFO; APScheduler warns of every job that still runs when its time comes again.
CHATTY = {"alembic": logging.WARNING, "apscheduler": logging.ERROR}


def configure(stream: TextIO | None = None, *, json: bool, level: str = "INFO") -> None:
    """Send the log of this process to a stream (standard error); a second call replaces the first."""
    stream = sys.stderr if stream is None else stream
    handler = Handler(stream)
    handler.setFormatter(_json_formatter() if json else _TextFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old, Handler):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name, quiet in CHATTY.items():
        logging.getLogger(name).setLevel(logging.DEBUG if level == "DEBUG" else quiet)
    logging.captureWarnings(True)


def escaped(text: str) -> str:
    """Text in which nothing can act on a terminal or begin a line: what is not printable shows as its code."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _code(ord(char)) for char in text)


def _code(number: int) -> str:
    if number < 0x100:
        return {10: "\\n", 13: "\\r", 9: "\\t"}.get(number, f"\\x{number:02x}")
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _json_formatter() -> logging.Formatter:
    return JsonFormatter(
        "{levelname}{name}{message}",
        style="{",
        rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception"},
        timestamp=True,
    )


class Handler(logging.StreamHandler[TextIO]):
    """Ours: known again when the log is configured anew."""

    def format(self, record: logging.LogRecord) -> str:
        record = copy.copy(record)  # other handlers get it as it was
        record.msg, record.args = _message(record), ()
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        return super().format(record).encode(encoding, "backslashreplace").decode(encoding)


def _message(record: logging.LogRecord) -> str:
    """The message with its arguments put in, fit for one line; never an error."""
    try:
        text = record.getMessage()
    except (TypeError, ValueError, KeyError):  # its arguments do not fit: somebody's text was taken for a format
        text = f"{record.msg} {record.args!r}"
    if record.levelno > logging.DEBUG and len(text) > MAX_MESSAGE_CHARS:
        text = f"{text[:MAX_MESSAGE_CHARS]}... ({len(text)} characters)"
    return escaped(text)


class _TextFormatter(logging.Formatter):
    """`03:14:07 WARNING threatlens.config: message`, in local time; a traceback follows indented."""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        lines = [f"{clock} {record.levelname} {record.name}: {record.getMessage()}"]
        if record.exc_info:
            lines += ["    | " + escaped(line) for line in self.formatException(record.exc_info).split("\n")]
        return "\n".join(lines)
