"""One source's decoder: what it learns, what is fixed, what is mixed."""

from __future__ import annotations

import gc

import pytest

from threatlens.decoders import DECODERS, ObjectDecoder, SourceDecoder, decode_stored, json_lines, json_straight
from threatlens.decoders.base import MessageDecoder
from threatlens.decoders.source import Registry
from threatlens.decoders.source import SourceDecoder as DecoderOf
from threatlens.decoders.tables import Row, Table, layout, row
from threatlens.event import TIME_CLAMPED, TIME_ERROR, rfc3339

READ_AT_S = 1_795_435_200.0  # 2026-11-23T12:00:00Z
SSHD = "Nov 23 06:51:07 web1 sshd[4211]: Failed password for root from 203.0.113.9 port 52144 ssh2"
CRON = "Nov 23 06:51:07 web1 CRON[31]: (root) CMD (true)"
COMBINED = '198.51.100.4 - - [23/Nov/2026:06:51:07 +0000] "GET / HTTP/1.1" 200 612 "-" "curl/8.5"'
APACHE_ONLY = '198.51.100.4 - - [23/Nov/2026:06:51:07 +0000] "GET / HTTP/1.1" 304 - "-" "curl/8.5"'
JSON = '{"level":"info","msg":"x"}'


def formats(decoder: SourceDecoder, *lines: str) -> list[str]:
    return [decoder.decode(line, READ_AT_S).format for line in lines]


def test_a_mixed_file_is_decoded_line_by_line():
    lines = (SSHD, JSON, COMBINED, "hello", CRON, SSHD)
    assert formats(SourceDecoder(), *lines) == ["sshd", "json", "nginx.access", "unknown", "cron", "sshd"]


def test_what_was_met_last_stands_first_in_learned():
    decoder = SourceDecoder()
    formats(decoder, SSHD, CRON, JSON, "hello", SSHD)
    assert decoder.learned == ("sshd", "json", "cron")


def test_what_was_learned_is_taken_over():
    decoder = SourceDecoder(learned=("cron", "sshd", "no longer a format"))
    assert decoder.learned == ("cron", "sshd")


def test_a_source_that_changes_its_format_is_followed():
    assert formats(SourceDecoder(learned=("nginx.access",)), *[SSHD] * 3, JSON) == ["sshd"] * 3 + ["json"]


def test_a_line_that_only_apache_writes_decides_for_the_lines_after_it():
    assert formats(SourceDecoder(), COMBINED, APACHE_ONLY, COMBINED, JSON, COMBINED) == [
        "nginx.access",
        "apache.access",
        "apache.access",
        "json",
        "apache.access",
    ]


@pytest.mark.parametrize("head", ["", "Nov 23 06:51:07 web1 sshd[1]: ", "2026-11-23T06:51:07+00:00 web1 other: "])
def test_a_fixed_format_reads_with_or_without_an_envelope(head):
    decoded = SourceDecoder(format="sshd").decode(head + "Invalid user x from 203.0.113.9 port 1", READ_AT_S)
    assert (decoded.format, decoded.fields["source.ip"]) == ("sshd", "203.0.113.9")


def test_a_fixed_format_reads_nothing_else():
    assert formats(SourceDecoder(format="sshd"), CRON, JSON, COMBINED) == ["syslog.rfc3164", "unknown", "unknown"]
    assert formats(SourceDecoder(format="json"), SSHD, JSON) == ["unknown", "json"]


def test_a_fixed_envelope_still_reads_its_programs():
    assert formats(SourceDecoder(format="syslog.rfc3164"), SSHD, JSON) == ["sshd", "unknown"]


def test_a_format_or_a_zone_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="no such format: nope"):
        SourceDecoder(format="nope")
    for zone in ("Nowhere/City", "../etc/passwd", ""):
        with pytest.raises(ValueError, match="no such time zone"):
            SourceDecoder(timezone=zone)


def test_a_time_in_the_future_becomes_the_time_of_reading():
    decoded = SourceDecoder().decode("2026-11-25T06:51:07+00:00 web1 app: x", READ_AT_S)
    assert (decoded.timestamp_us, decoded.flags) == (int(READ_AT_S * 1e6), TIME_CLAMPED)


def test_a_time_of_tomorrow_morning_stands():
    decoded = SourceDecoder().decode("2026-11-24T06:51:07+00:00 web1 app: x", READ_AT_S)
    assert (rfc3339(decoded.timestamp_us), decoded.flags) == ("2026-11-24T06:51:07+00:00", 0)


def test_a_line_without_a_time_is_flagged():
    assert SourceDecoder().decode("hello", READ_AT_S) == ("unknown", None, "hello", {}, TIME_ERROR)


def test_a_stored_line_gives_its_fields_but_no_time():
    decoded = decode_stored(SSHD, "sshd")
    assert (decoded.timestamp_us, decoded.fields["source.ip"]) == (None, "203.0.113.9")


def test_a_stored_line_of_a_format_that_is_gone_is_read_as_what_it_is():
    assert decode_stored(SSHD, "gone").format == "sshd"


def decoder_of(*members):
    """A SourceDecoder that knows these besides the family."""
    objects = [member for member in members if isinstance(member, ObjectDecoder)]
    family = [json_lines.decoder(objects) if member.name == "json" else member for member in DECODERS]
    return DecoderOf(Registry([*(member for member in members if member not in objects), *family, *objects]))


SHOP = layout(
    "shop",
    r"(?P<time>[0-9/]{10} [0-9:]{8}) <(?P<level>\w+)> (?P<message>.*)",
    about="A shop.",
    leads=("0000/00/00 00:00:00 <a",),
    messages=Table(
        {
            "denied": [
                row(r"denied (?P<user>\S+) at (?P<src>\S+) size (?P<event__duration>[0-9]{1,9})", "login", "failure")
            ]
        }
    ),
)


def test_a_layout_reads_time_level_message_and_what_the_message_says():
    decoded = decoder_of(SHOP).decode("2026/11/23 06:51:07 <warn> denied alice at 192.0.2.7 size 12", READ_AT_S)
    assert decoded.format == "shop"
    assert rfc3339(decoded.timestamp_us) == "2026-11-23T06:51:07+00:00"
    assert decoded.message == "denied alice at 192.0.2.7 size 12"
    assert decoded.fields == {
        "event.category": "authentication",
        "event.action": "login",
        "event.outcome": "failure",
        "log.level": "warning",
        "user.name": "alice",
        "source.ip": "192.0.2.7",
        "event.duration": 12,
    }


def test_a_long_lead_and_a_mark_spare_a_decoder_the_lines_of_others():
    marked = layout("marked", r"(?P<message>.*)", about="", leads=("0000/00/00",), marks=("never",))
    registry = Registry([SHOP, marked, *DECODERS])
    names = [member.name for member in registry.candidates("2026/11/23 06:51:07 [error] 31#31: *7 x")]
    assert "nginx.error" in names
    assert not {"shop", "marked"} & set(names)


def test_a_group_that_names_no_field_is_refused():
    with pytest.raises(ValueError, match="nofield"):
        _ = row("(?P<nofield>x)").read


def test_every_row_that_is_shipped_has_a_reader():
    rows = [thing for thing in gc.get_objects() if isinstance(thing, Row)]
    assert len(rows) > 300
    for known in rows:
        if known.pattern != "(?P<nofield>x)":
            assert callable(known.read), known.pattern


def shop_object(document, fields):
    if document["shop"] != "main":
        return None
    fields["event.action"] = "order"
    return ""


SHOP_JSON = ObjectDecoder("shop.json", "A shop.", ("shop", "order"), shop_object, times=("when.at",))


@pytest.mark.parametrize("head", ["", "Nov 23 06:51:07 web1 shop[1]: "])
def test_the_json_of_a_product_is_known_by_its_members(head):
    line = head + '{"shop": "main", "order": 7, "when": {"at": "2026-11-23T06:00:00Z"}, "msg": "sold"}'
    decoded = decoder_of(SHOP_JSON).decode(line, READ_AT_S)
    assert (decoded.format, decoded.message, decoded.fields["event.action"]) == ("shop.json", "sold", "order")
    assert decoded.fields["json.order"] == 7
    assert rfc3339(decoded.timestamp_us) == "2026-11-23T06:00:00+00:00"


def test_json_that_a_product_declines_stays_json():
    decoded = decoder_of(SHOP_JSON).decode('{"shop": "other", "order": 7}', READ_AT_S)
    assert decoded.format == "json"


def test_a_program_of_a_family_is_read_by_the_familys_decoder():
    table = Table({"sold": [row("sold (?P<user>.*)", "sale")]})
    decoder = decoder_of(MessageDecoder("shop", "A shop.", table.read, ("shop",)))
    decoded = decoder.decode("Nov 23 06:51:07 web1 shop/till[4]: sold alice", READ_AT_S)
    assert (decoded.format, decoded.fields["user.name"], decoded.fields["process.name"]) == (
        "shop",
        "alice",
        "shop/till",
    )


ALIKE = (
    SSHD,
    "2026-11-23T06:51:07.123456+02:00 web1 sshd[4211]: Invalid user x from 203.0.113.9 port 52144",
    COMBINED,
    "www.example.org:443 " + APACHE_ONLY.replace(" - ", " 17 "),
    '{"time":"2026-11-23T06:51:07.5Z","level":"WARN","msg":"hello","remote_addr":"192.0.2.1","status":404,"took":1.5}',
)


@pytest.mark.parametrize("line", ALIKE)
@pytest.mark.parametrize("change", [None, ("23", "30"), ("203.0.113.9", "host"), ("1.5", "null"), ("404", '"404"')])
def test_a_line_says_the_same_alone_and_behind_many_that_are_alike(line, change):
    """Most lines are read by what the lines before them have left: it must not show."""
    decoder = SourceDecoder()
    for _ in range(json_straight.OFTEN + 2):
        decoder.decode(line, READ_AT_S)
    other = line.replace(*change) if change else line
    assert decoder.decode(other, READ_AT_S) == SourceDecoder(learned=decoder.learned).decode(other, READ_AT_S)


def test_a_clock_set_back_makes_known_times_future_ones():
    decoder = SourceDecoder(year=2026)
    before = [decoder.decode(SSHD, READ_AT_S) for _ in range(3)][-1]
    after = decoder.decode(SSHD, READ_AT_S - 5 * 86_400)
    assert (before.flags, after.flags) == (0, TIME_CLAMPED)
