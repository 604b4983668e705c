"""Every decoder is listed, documented and has samples; every sample comes out as it says."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import threatlens.decoders
from threatlens.decoders import DECODERS, FORMATS, LineDecoder, SourceDecoder, decode_stored, rereader
from threatlens.decoders.formats import as_markdown
from threatlens.decoders.samples import READ_AT_S, DecoderSample, read_decoder_samples

SAMPLES = Path(__file__).parent.parent / "samples"
#: Modules of the family that are no members.
PARTS = {
    "application",
    "applications_devices",
    "applications_servers",
    "base",
    "clf",
    "continuations",
    "drafting",
    "exact_json",
    "json_straight",
    "explaining",
    "formats",
    "levels",
    "pairs",
    "priority",
    "product",
    "record_files",
    "records",
    "samples",
    "skew",
    "source",
    "spans",
    "tables",
    "times",
}


def samples() -> list[tuple[str, int, bool, DecoderSample, str]]:
    return [(each.format, each.number, each.decoy, each, each.line) for each in read_decoder_samples(str(SAMPLES))]


@pytest.mark.parametrize(("name", "number", "decoy", "sample", "line"), samples())
def test_a_sample_comes_out_as_it_says(name, number, decoy, sample, line):
    decoded = SourceDecoder().decode(line, READ_AT_S)
    assert sample.fault(decoded) == ""
    stored = decode_stored(line, decoded.format)
    assert (stored.format, stored.fields, stored.message) == (decoded.format, decoded.fields, decoded.message)


def test_stored_lines_that_are_read_again_together_come_out_as_each_does_alone():
    lines = [(line, SourceDecoder().decode(line, READ_AT_S).format) for *_, line in samples()]
    for order in (lines, lines[::-1], lines[::7] + lines[::5]):
        together = rereader()
        for line, name in order:
            again = together(line, name)
            assert again._replace(timestamp_us=None, flags=0) == decode_stored(line, name)._replace(flags=0)


def test_every_decoder_has_samples_and_a_decoy():
    have = {(name, decoy) for name, _, decoy, _, _ in samples()}
    for member in DECODERS:
        assert {(member.name, False), (member.name, True)} <= have, member.name


def test_every_sample_file_names_a_format():
    assert {path.stem for path in SAMPLES.glob("*.log")} == FORMATS | {"unknown"}


def test_every_member_of_every_module_is_listed_once():
    """A module has one DECODER, or several that belong together as DECODERS; json_lines and logfmt make theirs."""
    written = ["json", "logfmt"]
    for info in pkgutil.iter_modules(threatlens.decoders.__path__):
        module = importlib.import_module(f"threatlens.decoders.{info.name}")
        members = getattr(module, "DECODERS", None) or [getattr(module, "DECODER", None)]
        if info.name not in PARTS | {"json_lines", "logfmt"}:
            assert members != [None], f"{info.name} has no DECODER"
            written += [member.name for member in members]
    assert sorted(written) == sorted(member.name for member in DECODERS)
    assert len(set(written)) == len(written)


def test_samples_use_documentation_addresses_only():
    allowed = re.compile(r"192\.168\.|192\.0\.2\.|198\.51\.100\.|203\.0\.113\.|0\.0\.0\.0|1\.2\.3\.4\.5|1\.4\.1")
    for path in SAMPLES.glob("*.log"):
        for address in re.findall(r"(?<![\d.-])\d+\.\d+\.\d+\.\d+(?:\.\d+)?", path.read_text(encoding="utf-8")):
            assert allowed.match(address), f"{path.name}: {address}"


def test_a_line_meets_few_decoders_whatever_it_begins_with():
    registry = threatlens.decoders._REGISTRY
    for _, _, _, _, line in samples():
        strict = [member for member in registry.candidates(line) if member.strict]
        assert len(strict) <= 8, (line, [member.name for member in strict])


def test_loose_formats_come_after_strict_ones():
    strict = [member.strict for member in DECODERS if isinstance(member, LineDecoder)]
    assert strict == sorted(strict, reverse=True)


def test_the_documentation_of_formats_is_current():
    page = Path(__file__).parent.parent.parent / "docs" / "formats.md"
    assert page.read_text(encoding="utf-8") == as_markdown()
