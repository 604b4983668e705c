"""What container runtimes put in front of a line: CRI's time and stream, compose's name, kubectl's pod, logs -t's time.

What stands behind is read by the program that the container is named for, or as a line of any format.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from threatlens.decoders.base import ANY_PROGRAM, LineDecoder, Opened, compiled
from threatlens.decoders.times import Clock
from threatlens.event import TIME_ERROR, Fields

CRI = "cri"
_CRI = compiled(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|[+-][0-9]{2}:[0-9]{2})) "
    r"(stdout|stderr) ([FP])(?: (.*))?"
).fullmatch
_STAMPED = compiled(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}Z) (.*)").fullmatch
_COMPOSE = compiled(
    r"(?:\x1b\[[0-9;]{1,8}m)?([\w.-]{1,100}?)(?:[-_][0-9]{1,4} {1,40}| {2,40})\| ?(?:\x1b\[0m)?(.*)"
).fullmatch
_POD = compiled(r"\[pod/([\w.-]{1,253})/([\w.-]{1,253})\] (.*)").fullmatch


def _open_cri(line: str, clock: Clock) -> Opened | None:
    """containerd and CRI-O: "time stream tag text"; the tag P marks a part of a longer line."""
    found = _CRI(line)
    if found is None:
        return None
    time, stream, tag, message = found.groups()
    timestamp_us, flags = clock.iso(time)
    fields: Fields = {"log.iostream": stream}
    if tag == "P":
        fields["log.partial"] = True
    return CRI, timestamp_us, flags, ANY_PROGRAM, message or "", fields


def whole(lines: Sequence[str]) -> str:
    """The parts of a long line of a container (CRI's, or Docker's in JSON) as one line; "" for other lines."""
    if lines[0].startswith("{"):
        try:
            documents = [orjson.loads(line) for line in lines]
            return orjson.dumps({**documents[0], "log": "".join(each["log"] for each in documents)}).decode()
        except (LookupError, TypeError, ValueError):
            return ""
    found = [part.groups() for line in lines if (part := _CRI(line)) is not None]
    if len(found) < len(lines):
        return ""
    time, stream, _, _ = found[0]
    return f"{time} {stream} {found[-1][2]} {''.join(text or '' for *_, text in found)}"


def _open_compose(line: str, clock: Clock) -> Opened | None:  # noqa: ARG001  (an Open)
    """docker compose logs: "name-1  | text"."""
    found = _COMPOSE(line)
    if found is None:
        return None
    name, message = found.groups()
    return "docker.compose", None, TIME_ERROR, ANY_PROGRAM, message, {"container.name": name}


def _open_pod(line: str, clock: Clock) -> Opened | None:  # noqa: ARG001  (an Open)
    """kubectl logs --prefix: "[pod/name/container] text"."""
    found = _POD(line)
    if found is None:
        return None
    pod, container, message = found.groups()
    fields: Fields = {"kubernetes.pod.name": pod, "container.name": container}
    return "kubernetes.pod", None, TIME_ERROR, ANY_PROGRAM, message, fields


def _open_stamped(line: str, clock: Clock) -> Opened | None:
    """docker logs -t, kubectl logs --timestamps: nanoseconds and the text."""
    found = _STAMPED(line)
    if found is None:
        return None
    timestamp_us, flags = clock.iso(found[1])
    return "docker.timestamps", timestamp_us, flags, ANY_PROGRAM, found[2], {}


RUNTIMES = (
    LineDecoder(
        name=CRI,
        about="Container logs of containerd and CRI-O (Kubernetes nodes); what is inside is read on.",
        open=_open_cri,
        leads=("0000-00-00T",),
        marks=(" stdout ", " stderr "),
        inside=False,
    ),
    LineDecoder(
        name="kubernetes.pod",
        about="kubectl logs --prefix.",
        open=_open_pod,
        leads=("[aaa/",),
        marks=("[pod/",),
        inside=False,
    ),
)
#: Asked late: other formats begin like these.
HABITS = (
    LineDecoder(
        name="docker.compose",
        about="docker compose logs: the container's name and a bar in front.",
        open=_open_compose,
        leads=("a", "A", "\x1b["),
        marks=(" | ", " |"),
        strict=False,
        inside=False,
    ),
    LineDecoder(
        name="docker.timestamps",
        about="docker logs -t and kubectl logs --timestamps: a time with nanoseconds in front.",
        open=_open_stamped,
        leads=("0000-00-00A00:00:00.000000000A ",),
        strict=False,
        inside=False,
    ),
)
DECODERS = RUNTIMES + HABITS
