"""What the benchmarks stand on. They themselves never run here: they take minutes and a quiet machine."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from benchmarks import corpus
from benchmarks.__main__ import BENCHMARKS
from benchmarks.feed import WRITTEN, line
from benchmarks.soak import Sample, slope
from benchmarks.table import Table, percentile
from threatlens.decoders import SourceDecoder

ROOT = Path(__file__).parent.parent
END = dt.datetime(2026, 11, 24, 12, 0, tzinfo=dt.UTC)


def test_every_benchmark_is_there() -> None:
    assert all((ROOT / "benchmarks" / f"{name}.py").is_file() for name in BENCHMARKS)


@pytest.mark.parametrize("kind", corpus.KINDS)
def test_a_corpus_is_whole_repeatable_and_up_to_date(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.log"

    size = corpus.write(str(path), kind, 1_234, end=END)

    lines = path.read_text().splitlines(keepends=True)
    assert size == path.stat().st_size
    assert len(lines) == 1_234
    assert lines == list(corpus.generate(kind, 1_234, seed=1, end=END))
    last = SourceDecoder().decode(lines[-1].rstrip("\n"), END.timestamp()).timestamp_us
    assert last is not None
    assert abs(last / 1e6 - END.timestamp()) <= 1


@pytest.mark.parametrize("kind", corpus.KINDS)
def test_a_corpus_is_of_lines_that_are_decoded(kind: str) -> None:
    decoder = SourceDecoder()

    formats = {
        decoder.decode(text.rstrip("\n"), END.timestamp()).format
        for text in corpus.generate(kind, 500, seed=1, end=END)
    }

    assert "unknown" not in formats


def test_a_line_tells_when_it_was_written() -> None:
    assert [int(number) for number, _ in WRITTEN.findall(b"frame " + line(7) + line(8))] == [7, 8]


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(number) for number in range(1, 101)]

    assert (percentile(values, 50), percentile(values, 99), percentile(values, 100)) == (51.0, 100.0, 100.0)


def test_a_slope_is_what_an_hour_adds() -> None:
    samples = [Sample(60.0 * minute, 100.0 + minute / 10, 30, 12, 0, 0, 1.0) for minute in range(30)]

    assert slope(samples, "rss_mb") == pytest.approx(6.0)
    assert slope(samples, "threads") == 0.0
    assert slope(samples[:1], "rss_mb") == 0.0


def test_a_row_has_a_cell_for_every_column(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("Title", "what", "lines/s")
    table.add("sshd", "1,000")
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        table.add("sshd")

    table.show()

    assert "sshd    1,000" in capsys.readouterr().out
