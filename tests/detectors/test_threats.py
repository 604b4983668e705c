"""Lists of what is bad, lists that rules expand, and where addresses are."""

from __future__ import annotations

import os

import pytest
from builders import mmdb
from rule_texts import event

from threatlens.decoders import SourceDecoder
from threatlens.detectors import BUILTIN, DetectionEngine, load_rules
from threatlens.detectors.geo import Geo
from threatlens.detectors.lists import load_lists, parse_list
from threatlens.detectors.threats import ThreatLists
from threatlens.errors import ConfigError

MD5 = "d41d8cd98f00b204e9800998ecf8427e"
LISTS = {
    "addresses": ("203.0.113.9", "198.51.100.0/24", "2001:db8:bad::/48"),
    "domains": ("bad.example", "*.worse.example", "https://evil.example.net/x"),
    "hashes": (MD5, "A" * 64),
}
HITS = [
    ({"source.ip": "203.0.113.9"}, ("addresses", "203.0.113.9")),
    ({"destination.ip": "198.51.100.77"}, ("addresses", "198.51.100.0/24")),
    ({"source.ip": "2001:db8:bad:1::5"}, ("addresses", "2001:db8:bad::/48")),
    ({"source.ip": "203.0.113.10"}, None),
    ({"source.ip": "nonsense"}, None),
    ({"dns.question.name": "bad.example"}, ("domains", "bad.example")),
    ({"dns.question.name": "a.b.BAD.example."}, ("domains", "bad.example")),
    ({"dns.question.name": "notbad.example"}, None),
    ({"url.domain": "x.worse.example"}, ("domains", "*.worse.example")),
    ({"url.original": "http://evil.example.net/y?z"}, ("domains", "https://evil.example.net/x")),
    ({"url.original": "http://[::1"}, None),
    ({"file.hash.md5": MD5.upper()}, ("hashes", MD5)),
    ({"json.Event.EventData.Hashes": f"SHA1=00,MD5={MD5},IMPHASH=0"}, ("hashes", MD5)),
    ({"process.hash.sha256": "a" * 64}, ("hashes", "A" * 64)),
    ({"file.hash.md5": "0" * 32}, None),
]


@pytest.mark.parametrize(("fields", "wanted"), HITS, ids=str)
def test_a_value_of_an_event_is_looked_up(fields, wanted):
    found = [(hit.name, hit.entry) for hit in ThreatLists(LISTS).hits(fields)]

    assert found == ([] if wanted is None else [wanted])


def test_what_is_no_entry_is_counted_and_ignored():
    lists = ThreatLists({"x": ("not an entry", "", "192.0.2.0/24", "10.0.0.0/8")})

    assert (lists.entries, lists.ignored) == (4, 3), "whole private networks are where we live"


def test_the_engine_tells_of_each_entry_once_per_batch(engine):
    made = engine("", threats=ThreatLists(LISTS))
    found = made.detect(
        [event({"source.ip": "198.51.100.1", "user.name": "anna"}, at_s=at) for at in range(50)]
    ).matches

    (match,) = found
    assert (match.rule_id, match.count, match.source_ip) == ("threatlens-list-addresses", 50, "198.51.100.1")
    assert match.rule_name == "198.51.100.1 is in the list addresses"
    assert match.positions == tuple(range(50))


@pytest.mark.parametrize(
    ("text", "is_csv", "wanted"),
    [
        ("# a list\n192.0.2.1\n\n192.0.2.2 # why\n192.0.2.1\n; end\n", False, ("192.0.2.1", "192.0.2.2")),
        ("1.10.16.0/20 ; SBL256894\n", False, ("1.10.16.0/20",)),
        ("# head\n192.0.2.1,3,x\n192.0.2.2,1,y\n", True, ("192.0.2.1", "192.0.2.2")),
        ('first_seen,dst_ip,dst_port\n"2026-01-01","192.0.2.1",443\n', True, ("192.0.2.1",)),
        ("", True, ()),
        ("", False, ()),
    ],
)
def test_plain_lists_and_csv_are_read(text, is_csv, wanted):
    assert parse_list(text, csv_file=is_csv) == wanted


def test_a_folder_of_lists_is_known_by_the_names_of_its_files(tmp_path):
    (tmp_path / "admins.txt").write_text("anna\n")
    (tmp_path / "bad.csv").write_text("ip\n192.0.2.1\n")
    (tmp_path / "notes.md").write_text("x")
    (tmp_path / "a b.txt").write_text("x")

    assert load_lists(str(tmp_path)) == {"admins": ("anna",), "bad": ("192.0.2.1",)}


def test_addresses_are_placed_by_files_in_the_format_of_maxmind(tmp_path, engine):
    country = {
        "country": {"iso_code": "SE", "names": {"en": "Sweden"}},
        "location": {"latitude": 59.3, "longitude": 18.0},
    }
    (tmp_path / "country.mmdb").write_bytes(mmdb(203, country))
    asn = {"autonomous_system_number": (64500, 6, 4), "autonomous_system_organization": "Example"}
    (tmp_path / "asn.mmdb").write_bytes(mmdb(203, asn))
    geo = Geo([str(tmp_path / "country.mmdb"), str(tmp_path / "asn.mmdb")])
    rule = (
        "title: T\nid: 33333333-3333-4333-8333-333333333333\nlogsource: {category: test}\n"
        "detection:\n  a: {source.geo.country_iso_code: SE, source.as.number: 64500}\n  condition: a\n"
    )
    inside, outside, odd = (
        event({"source.ip": "203.0.113.9"}),
        event({"source.ip": "192.0.2.1"}),
        event({"source.ip": "::1"}),
    )

    assert [match.positions for match in engine(rule, enrich=geo.enrich).detect([outside, inside, odd]).matches] == [
        (1,)
    ]
    assert inside[0].fields["source.geo.location.lat"] == 59.3
    assert "source.geo.country_iso_code" not in outside[0].fields
    geo.close()


def test_logins_from_two_countries_are_told_of_where_a_file_of_countries_is_given(tmp_path, tables):
    for octet, country in ((203, "SE"), (198, "BR")):
        (tmp_path / f"{country}.mmdb").write_bytes(mmdb(octet, {"country": {"iso_code": country}}))
    geo = Geo([str(tmp_path / "SE.mmdb"), str(tmp_path / "BR.mmdb")])
    rules = load_rules([os.path.join(BUILTIN, "authentication", "impossible_travel.yml")])

    def told(*logins: tuple[str, str, str], enrich=geo.enrich) -> list[tuple]:
        decoder = SourceDecoder(year=2026)
        lines = [
            f"Nov 23 {time} web1 sshd[4211]: Accepted password for {user} from {address} port 52144 ssh2"
            for time, user, address in logins
        ]
        decoded = [decoder.decode(line, 1_795_435_200.0) for line in lines]
        engine = DetectionEngine(rules, tables, enrich=enrich)
        found = engine.detect([(one, one.timestamp_us) for one in decoded]).matches
        return [(match.rule_name, match.user_name, match.positions) for match in found]

    far = [("12:00:00", "anna", "203.0.113.9"), ("12:20:00", "anna", "198.51.100.4")]
    assert told(*far) == [("Logins from two countries", "anna", (0, 1))]
    assert told(far[0], ("12:20:00", "anna", "203.0.113.77")) == []
    assert told(far[0], ("12:20:00", "ben", "198.51.100.4")) == []
    assert told(far[0], ("13:20:00", "anna", "198.51.100.4")) == []
    assert told(far[0], ("12:20:00", "anna", "192.0.2.1")) == [], "an address that is in no file is nowhere"
    assert told(*far, enrich=None) == []
    geo.close()


def test_a_file_that_is_none_of_these_is_named(tmp_path):
    (tmp_path / "x.mmdb").write_bytes(b"x" * 100)

    for path in (str(tmp_path / "x.mmdb"), str(tmp_path / "none.mmdb")):
        with pytest.raises(ConfigError, match="MaxMind"):
            Geo([path])
