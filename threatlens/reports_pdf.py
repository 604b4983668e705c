"""The PDF of a report: `python -I threatlens/reports_pdf.py FILE` reads the document on standard input.

It runs as a process of its own and knows neither database nor configuration. Text is drawn as text, so it can be
searched and copied; what a font cannot show becomes its code point. The file appears whole or not at all.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
import zoneinfo
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from fpdf import FPDF
from fpdf.enums import XPos, YPos
from fpdf.fonts import FontFace
from fpdf.prefs import ViewerPreferences

FONTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fonts")
MARGIN, WIDTH = 16.0, 178.0  # mm, A4
INK, FAINT, LINE, ACCENT = (28, 31, 36), (104, 110, 120), (214, 217, 222), (30, 90, 200)
#: Of severities 1-2, 3-4, 5-6, 7-8, 9-10, as on the pages.
BANDS = ((150, 160, 172), (74, 124, 190), (206, 156, 30), (208, 100, 30), (186, 36, 46))


class ReportPdf(FPDF):
    """A4, with our fonts, a foot on every page and bookmarks for the sections."""

    def __init__(self, title: str, foot: str) -> None:
        super().__init__(format="A4", unit="mm")
        self._foot = foot
        self.set_margins(MARGIN, MARGIN, MARGIN)
        self.c_margin = 0  # text begins where lines and pictures do
        self.set_auto_page_break(True, margin=20)
        for style, file in (("", "DejaVuSans.ttf"), ("B", "DejaVuSans-Bold.ttf")):
            self.add_font("sans", style, os.path.join(FONTS, file))
        self.add_font("mono", "", os.path.join(FONTS, "DejaVuSansMono.ttf"))
        self.set_title(title)
        self.set_creator("ThreatLens")
        self.set_lang("en")
        self.viewer_preferences = ViewerPreferences(display_doc_title=True)
        self._known = {name: frozenset(getattr(font, "cmap", ())) for name, font in self.fonts.items()}

    def footer(self) -> None:
        self.set_y(-13)
        self.set_font("sans", size=7.5)
        self.set_text_color(*FAINT)
        self.cell(WIDTH / 2, 4, self._foot)
        self.cell(WIDTH / 2, 4, f"{self.page_no()} of {{nb}}", align="R")

    def shown(self, text: object, font: str = "sans") -> str:
        """The text with the characters that the font has not as code points."""
        known = self._known[font]
        return "".join(char if ord(char) in known else f"[U+{ord(char):04X}]" for char in str(text))

    def heading(self, text: str) -> None:
        if self.get_y() > 240:
            self.add_page()
        self.ln(5)
        self.set_font("sans", "B", 12.5)
        self.set_text_color(*INK)
        self.start_section(text)
        with self.tagged("/H2", text):
            self.cell(WIDTH, 7, text, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.set_draw_color(*LINE)
        self.line(MARGIN, self.get_y(), MARGIN + WIDTH, self.get_y())
        self.ln(2)

    @contextmanager
    def tagged(self, kind: str, words: str) -> Iterator[None]:
        """What is drawn is a heading (/H1, /H2) or a picture (/Figure) for those who do not see it; on one page.

        The library tags pictures and nothing else by itself; this is the same, with a name that says what it is.
        """
        mcid = self.struct_builder.next_mcid_for_page(self.page)
        self._add_marked_content(struct_type=kind, mcid=mcid, title=words, alt_text=words)
        self._out(f"{kind} <</MCID {mcid}>> BDC")
        yield
        self._out("EMC")

    def hanging(self, lead: str, text: str, *, indent: float, width: float, size: float) -> None:
        """A short lead, and the text beside it however many lines it takes."""
        self.set_font("sans", size=size)
        height = size * 0.52
        if self.get_y() + 2 * height > self.page_break_trigger:
            self.add_page()
        self.set_x(MARGIN + indent)
        self.set_text_color(*FAINT)
        self.cell(width, height, self.shown(lead))
        self.set_text_color(*INK)
        self.multi_cell(
            WIDTH - indent - width, height, self.shown(text), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT
        )

    def say(self, text: str, size: float = 9.5, *, bold: bool = False, faint: bool = False, indent: float = 0) -> None:
        self.set_font("sans", "B" if bold else "", size)
        self.set_text_color(*(FAINT if faint else INK))
        self.set_x(MARGIN + indent)
        self.multi_cell(
            WIDTH - indent, size * 0.52, self.shown(text, "sansB" if bold else "sans"), align="L",
            new_x=XPos.LMARGIN, new_y=YPos.NEXT,
        )  # fmt: skip

    def bullets(self, items: Sequence[str]) -> None:
        for item in items:
            self.set_font("sans", size=9.5)
            self.set_text_color(*ACCENT)
            self.set_x(MARGIN)
            self.cell(4, 5, "•")
            self.set_text_color(*INK)
            self.multi_cell(WIDTH - 4, 5, self.shown(item), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def rows(self, heads: Sequence[str], widths: Sequence[float], rows: Sequence[Sequence[object]],
             right: frozenset[int] = frozenset()) -> None:  # fmt: skip
        """A table whose head is repeated on every page."""
        self.set_font("sans", size=8)
        self.set_text_color(*INK)
        self.set_draw_color(*LINE)
        self.set_fill_color(255)
        aligns = ["RIGHT" if place in right else "LEFT" for place in range(len(heads))]
        with self.table(
            width=WIDTH, col_widths=tuple(widths), text_align=tuple(aligns), line_height=4.6, padding=0.8,
            borders_layout="HORIZONTAL_LINES", headings_style=FontFace(emphasis="BOLD", color=FAINT),
        ) as table:  # fmt: skip
            head = table.row()
            for text in heads:
                head.cell(text)
            for values in rows:
                row = table.row()
                for value in values:
                    row.cell(self.shown(value))
        self.ln(1)


def write(data: Mapping[str, Any], path: str) -> None:
    """Write the PDF of a document."""
    zone = _zone(data["zone"])
    span, last = _day(data["start_us"], zone), _day(data["end_us"] - 1, zone)
    if last != span:
        span = f"{span} to {last}"
    if data["kind"] == "search":
        span = f"{_moment(data['start_us'], zone)} to {_moment(data['end_us'], zone)}"
    pdf = ReportPdf(f"ThreatLens: {data['title']}, {span}", f"ThreatLens · {data['title']} · {span}")
    pdf.add_page()
    if data["kind"] == "search":
        _search(pdf, data, zone)
    else:
        _first_page(pdf, data, span, zone)
        _incidents(pdf, data, zone)
        _attackers(pdf, data)
        _targets(pdf, data)
        _rules(pdf, data)
        _sources(pdf, data)
        _health(pdf, data, zone)
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            pdf.output(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def _first_page(pdf: ReportPdf, data: Mapping[str, Any], span: str, zone: dt.tzinfo) -> None:
    pdf.set_text_color(*FAINT)
    pdf.set_font("sans", size=9)
    pdf.cell(WIDTH, 5, f"ThreatLens · {data['title']} · {span} · {data['zone']}", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    pdf.ln(1)
    pdf.start_section("Summary")
    headline = data["headline"][:1].upper() + data["headline"][1:] + "."
    with pdf.tagged("/H1", headline):
        pdf.say(headline, 17, bold=True)
    pdf.ln(2)
    pdf.say(" ".join(data["summary"]), 10)
    pdf.heading("What needs doing")
    if data["to_do"]:
        pdf.bullets(data["to_do"])
    else:
        pdf.say("Nothing. ThreatLens watched, and nothing asks for a decision.", faint=True)
    numbers = [
        ("events", data["total"], data["last_week"]),
        ("incidents", sum(data["incident_counts"].values()), data["incidents_last_week"]),
        ("severity 7 and up", sum(n for number, n in data["by_severity"].items() if int(number) >= 7), None),
        ("lines not stored", data["ledger"]["dead_letters"], None),
    ]
    pdf.ln(4)
    _numbers(pdf, numbers, data.get("compared_with", "a week before"))
    _charts(pdf, data, zone)


def _search(pdf: ReportPdf, data: Mapping[str, Any], zone: dt.tzinfo) -> None:
    """What a saved search found: how many, when, where, and the most severe of them."""
    pdf.set_text_color(*FAINT)
    pdf.set_font("sans", size=9)
    pdf.cell(WIDTH, 5, f"ThreatLens · saved search · {data['zone']}", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    pdf.ln(1)
    pdf.start_section("Summary")
    with pdf.tagged("/H1", pdf.shown(data["title"])):
        pdf.say(data["title"], 17, bold=True)
    pdf.ln(2)
    pdf.say(" ".join(data["summary"]), 10)
    pdf.say(f"Search: {data['query']}", 9, faint=True)
    _charts(pdf, data, zone)
    pdf.heading("Sources")
    pdf.rows(
        ("Source", "Events"),
        (148, 30),
        [(each["name"], f"{each['events']:,}") for each in data["sources"]],
        right=frozenset({1}),
    )
    pdf.heading("The most severe")
    pdf.rows(
        ("Time", "Severity", "Source", "Message"),
        (27, 15, 28, 108),
        [(_moment(each["at_us"], zone), each["severity"], each["source"], each["message"]) for each in data["rows"]],
    )
    pdf.say(f"Made {data['made'][:19].replace('T', ' ')} UTC.", 8, faint=True)


def _charts(pdf: ReportPdf, data: Mapping[str, Any], zone: dt.tzinfo) -> None:
    pdf.heading("Severity")
    counts = [sum(data["by_severity"].get(str(n), 0) for n in (2 * band - 1, 2 * band)) for band in range(1, 6)]
    words = ", ".join(f"severity {2 * band + 1} to {2 * band + 2}: {n:,} events" for band, n in enumerate(counts))
    with pdf.tagged("/Figure", words):
        _severities(pdf, data["by_severity"])
    pdf.heading("Over time")
    if pdf.get_y() > 225:
        pdf.add_page()
    bars = "; ".join(
        f"from {_moment(bar['start_us'], zone)}: {sum(bar['by_severity'].values()):,}" for bar in data["trend"]
    )
    with pdf.tagged("/Figure", f"Events over time. {bars}"):
        _trend(pdf, data["trend"], zone)


def _numbers(pdf: ReportPdf, numbers: Sequence[tuple[str, int, int | None]], compared_with: str) -> None:
    y, width = pdf.get_y(), WIDTH / len(numbers)
    for place, (name, value, before) in enumerate(numbers):
        x = MARGIN + place * width
        pdf.set_xy(x, y)
        pdf.set_font("sans", "B", 15)
        pdf.set_text_color(*INK)
        pdf.cell(width, 7, f"{value:,}", new_x=XPos.LEFT, new_y=YPos.NEXT)
        pdf.set_font("sans", size=8)
        pdf.set_text_color(*FAINT)
        pdf.cell(width, 4, name, new_x=XPos.LEFT, new_y=YPos.NEXT)
        if before is not None:
            pdf.cell(width, 4, f"{compared_with}: {before:,}")
    pdf.set_y(y + 16)


def _severities(pdf: ReportPdf, by_severity: Mapping[str, int]) -> None:
    counts = [sum(by_severity.get(str(n), 0) for n in (2 * band - 1, 2 * band)) for band in range(1, 6)]
    total = sum(counts)
    if not total:
        pdf.say("No events.", faint=True)
        return
    x, y = MARGIN, pdf.get_y() + 1
    for band, n in enumerate(counts):
        width = WIDTH * n / total
        if n:
            pdf.set_fill_color(*BANDS[band])
            pdf.rect(x, y, max(width, 0.4), 6, style="F")
            x += width
    pdf.set_y(y + 8)
    for band, n in enumerate(counts):
        pdf.set_fill_color(*BANDS[band])
        x = MARGIN + band * WIDTH / 5
        pdf.rect(x, pdf.get_y() + 1, 3, 3, style="F")
        pdf.set_xy(x + 4, pdf.get_y())
        pdf.set_font("sans", size=8)
        pdf.set_text_color(*INK)
        pdf.cell(WIDTH / 5 - 4, 5, f"{2 * band + 1}–{2 * band + 2}: {n:,}")
    pdf.ln(6)


def _trend(pdf: ReportPdf, trend: Sequence[Mapping[str, Any]], zone: dt.tzinfo) -> None:
    totals = [sum(bar["by_severity"].values()) for bar in trend]
    highest = max(totals, default=0)
    if not highest:
        pdf.say("No events.", faint=True)
        return
    top, height, width = pdf.get_y() + 2, 38.0, WIDTH / len(trend)
    for place, bar in enumerate(trend):
        y = top + height
        for band in range(1, 6):
            n = sum(bar["by_severity"].get(str(number), 0) for number in (2 * band - 1, 2 * band))
            part = height * n / highest
            if n:
                pdf.set_fill_color(*BANDS[band - 1])
                pdf.rect(MARGIN + place * width + width * 0.1, y - part, width * 0.8, part, style="F")
                y -= part
    pdf.set_draw_color(*LINE)
    pdf.line(MARGIN, top + height, MARGIN + WIDTH, top + height)
    pdf.set_font("sans", size=7.5)
    pdf.set_text_color(*FAINT)
    form = "%H:%M" if len(trend) == 24 else "%d %b"
    for place in (0, len(trend) // 2, len(trend) - 1):
        pdf.set_xy(MARGIN + place * width - (12 if place == len(trend) - 1 else 0), top + height + 1)
        pdf.cell(20, 4, _local(trend[place]["start_us"], zone).strftime(form))
    pdf.set_xy(MARGIN, top - 4)
    pdf.cell(WIDTH, 4, f"most in one bar: {highest:,}", align="R")
    pdf.set_y(top + height + 6)


def _incidents(pdf: ReportPdf, data: Mapping[str, Any], zone: dt.tzinfo) -> None:
    pdf.heading("Incidents")
    if not data["incidents"]:
        pdf.say("None. No rule saw anything that belongs together and deserves a name.", faint=True)
        return
    for one in data["incidents"]:
        if pdf.get_y() > 255:
            pdf.add_page()
        y = pdf.get_y()
        pdf.set_fill_color(*BANDS[min(4, (one["severity"] - 1) // 2)])
        pdf.rect(MARGIN, y + 0.6, 1.6, 4.4, style="F")
        pdf.say(f"{one['severity']}/10  {one['title']}", 10, bold=True, indent=4)
        words = one.get("words", "it succeeded" if one["outcome"] == "success" else "an attempt")  # reports of before
        when = f"{_moment(one['first_us'], zone)} to {_moment(one['last_us'], zone)}"
        pdf.say(f"#{one['id']} · {one['status'].replace('_', ' ')} · {words} · {one['n']:,} matches · {when}", 8,
                faint=True, indent=4)  # fmt: skip
        for step in one["story"]:
            known = f" ({', '.join(step['techniques'][:2])})" if step["techniques"] else ""
            times = f" × {step['n']:,}" if step["n"] > 1 else ""
            pdf.hanging(_moment(step["first_us"], zone), f"{step['what']}{times}{known}", indent=4, width=27, size=8.5)
        pdf.ln(2)


def _attackers(pdf: ReportPdf, data: Mapping[str, Any]) -> None:
    pdf.heading("Addresses that were busiest")
    if not data["addresses"]:
        pdf.say("No line named a source address.", faint=True)
        return
    pdf.rows(
        ("Address", "Events", "Failures", "Successes"),
        (90, 30, 30, 28),
        [(each["address"], f"{each['events']:,}", f"{each['failures']:,}", f"{each['successes']:,}")
         for each in data["addresses"]],
        right=frozenset({1, 2, 3}),
    )  # fmt: skip


def _targets(pdf: ReportPdf, data: Mapping[str, Any]) -> None:
    if not data["targets"]:
        return
    pdf.heading("Accounts and machines that matches were about")
    pdf.rows(
        ("Name", "Kind", "Matches", "Incidents"),
        (100, 26, 26, 26),
        [(each["name"], each["kind"], f"{each['matches']:,}", f"{each['incidents']:,}") for each in data["targets"]],
        right=frozenset({2, 3}),
    )  # fmt: skip


def _rules(pdf: ReportPdf, data: Mapping[str, Any]) -> None:
    if not data["rules"]:
        return
    pdf.heading("Rules that matched")
    pdf.rows(
        ("Rule", "Technique", "Level", "Matches"),
        (70, 66, 24, 18),
        [(each["name"], ", ".join(each["techniques"][:2]), each["level"], f"{each['matches']:,}")
         for each in data["rules"]],
        right=frozenset({3}),
    )  # fmt: skip


def _sources(pdf: ReportPdf, data: Mapping[str, Any]) -> None:
    pdf.heading("Sources and what is understood of them")
    if not data["sources"]:
        pdf.say("Nothing is watched.", faint=True)
        return
    pdf.rows(
        ("Source", "State", "Speaks", "Events", "Understood"),
        (56, 26, 46, 26, 24),
        [(each["name"], each["state"] if each["enabled"] else "off", ", ".join(each["formats"]) or "–",
          f"{each['events']:,}", "–" if each["decoded"] is None else f"{each['decoded'] * 100:.1f} %")
         for each in data["sources"][:40]],
        right=frozenset({3, 4}),
    )  # fmt: skip
    pdf.say("What was not seen", 9.5, bold=True)
    if data["blind_spots"]:
        pdf.bullets(data["blind_spots"])
    else:
        pdf.say("Every source is read and understood.", faint=True)


def _health(pdf: ReportPdf, data: Mapping[str, Any], zone: dt.tzinfo) -> None:
    pdf.heading("ThreatLens itself")
    ledger, told = data["ledger"], data["notifications"]
    pdf.rows(
        ("Ledger", ""),
        (110, 68),
        [
            ("bytes read", f"{ledger['bytes']:,}"),
            ("lines", f"{ledger['lines']:,}"),
            ("of those blank", f"{ledger['blank_lines']:,}"),
            ("of those part of the event before", f"{ledger.get('joined_lines', 0):,}"),
            ("lines that could not be stored (dead letters)", f"{ledger['dead_letters']:,}"),
            ("notifications sent, waiting, failed, held back",
             ", ".join(f"{told.get(state, 0):,}" for state in ("sent", "pending", "failed", "suppressed"))),
        ],
        right=frozenset({1}),
    )  # fmt: skip
    pdf.say("What changed", 9.5, bold=True)
    for each in data["states"]:
        reason = f": {each['reason']}" if each["reason"] else ""
        pdf.hanging(_moment(each["at_us"], zone), f"{each['component']} {each['state']}{reason}", indent=0, width=27,
                    size=8.5)  # fmt: skip
    if not data["states"]:
        pdf.say("Nothing: every part stayed as it was.", faint=True)
    pdf.ln(2)
    pdf.say(f"Made {data['made'][:19].replace('T', ' ')} UTC.", 8, faint=True)


def _zone(name: str) -> dt.tzinfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        return dt.UTC


def _local(timestamp_us: int, zone: dt.tzinfo) -> dt.datetime:
    return dt.datetime.fromtimestamp(timestamp_us / 1e6, zone)


def _day(timestamp_us: int, zone: dt.tzinfo) -> str:
    moment = _local(timestamp_us, zone)
    return f"{moment:%A}, {moment.day} {moment:%B %Y}"


def _moment(timestamp_us: int, zone: dt.tzinfo) -> str:
    return f"{_local(timestamp_us, zone):%d %b %H:%M:%S}"


if __name__ == "__main__":
    write(json.load(sys.stdin), sys.argv[1])
