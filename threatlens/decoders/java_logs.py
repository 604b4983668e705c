"""What Java's loggers write: the usual layouts of log4j and logback, and those of Hadoop, HDFS, Spark and ZooKeeper.

The logger is the class that wrote the line; its message is all that follows. Names in brackets may hold brackets of
their own ("QuorumPeer[myid=1]"), so a thread ends at the bracket before the logger. The usual layouts are loose: a
product that uses one and has a decoder of its own is asked first, line by line.
"""

from __future__ import annotations

from threatlens.decoders.base import ANY_LINE
from threatlens.decoders.tables import layout

_WORDS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
_LEVEL = r"(?P<level>TRACE|DEBUG|INFO|WARN|WARNING|ERROR|FATAL|SEVERE|CONFIG|FINE|FINER|FINEST)"
_CLOCK = r"[0-9]{2}:[0-9]{2}:[0-9]{2}"
_TIME = rf"(?P<time>[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[ T]{_CLOCK}(?:[.,][0-9]{{1,9}})?(?:Z|[+-][0-9]{{2}}:?[0-9]{{2}})?)"
_CLASS = r"(?P<logger>[\w$.<>/-]{1,200})"
_THREAD = r"\[(?P<thread>[^\[\]]{0,200})\]"
_MESSAGE = r"(?: -|:) {1,4}(?P<message>.*)"

PRODUCTS = (
    layout(
        "zookeeper",
        rf"{_TIME} (?:\[myid:[^\]\s]{{0,20}}\] )?- {_LEVEL} {{1,2}}"
        r"\[(?:(?P<thread>[^@]{0,300}):)?(?P<logger>[\w$]{1,100})@(?P<log__origin__file__line>[0-9]{1,6})\]"
        r" - (?P<message>.*)",
        about="Apache ZooKeeper.",
        leads=("0000-00-00 00:00:00,000 - A", "0000-00-00 00:00:00,000 [aaaa:"),
        goes_on=ANY_LINE,
        marks=("] - ",),
    ),
    layout(
        "hadoop.hdfs",
        rf"(?P<date>[0-9]{{6}}) (?P<time>[0-9]{{6}}) (?P<pid>[0-9]{{1,10}}) {_LEVEL} {_CLASS}: (?P<message>.*)",
        about="HDFS nodes with short dates.",
        leads=("000000 000000 0",),
        goes_on=ANY_LINE,
    ),
    layout(
        "spark",
        rf"(?P<time>[0-9]{{2}}/[0-9]{{2}}/[0-9]{{2}} {_CLOCK}) {_LEVEL} {_CLASS}: (?P<message>.*)",
        about="Apache Spark and other Hadoop clients.",
        leads=("00/00/00 00:00:00 A",),
        goes_on=ANY_LINE,
    ),
)
LAYOUTS = (
    layout(
        "spring",
        rf"{_TIME} {{1,2}}{_LEVEL} (?P<pid>[0-9]{{1,10}}) --- (?:\[[\w .-]{{1,100}}\] )?{_THREAD} {_CLASS} *:"
        r" (?P<message>.*)",
        about="Spring Boot's console layout.",
        leads=("0000-00-00",),
        goes_on=ANY_LINE,
        marks=(" --- [",),
        strict=False,
    ),
    layout(
        "log4j",
        rf"{_TIME},? {{1,4}}\[?{_LEVEL}\]? {{1,4}}(?:{_THREAD} {{1,2}})?{_CLASS}(?:\[[^\]]{{0,100}}\])?{_MESSAGE}",
        about="log4j and logback: time, level, thread, class (Hadoop, Kafka and many servers).",
        leads=("0000-00-00 00:00:00,000 ", "0000-00-00 00:00:00.000 ", "0000-00-00A00:00:00"),
        goes_on=ANY_LINE,
        marks=_WORDS,
        strict=False,
    ),
    layout(
        "logback",
        rf"(?:{_TIME}|{_CLOCK}[.,][0-9]{{3}}) {_THREAD} {_LEVEL} {{1,2}}{_CLASS}{_MESSAGE}",
        about="logback's default layout: time, thread, level, class.",
        leads=("0000-00-00 00:00:00", "0000-00-00A00:00:00", "00:00:00.000 [", "00:00:00,000 ["),
        goes_on=ANY_LINE,
        marks=_WORDS,
        strict=False,
    ),
)
DECODERS = PRODUCTS + LAYOUTS
