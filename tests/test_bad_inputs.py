"""The hostile lines, files and configurations that ThreatLens must survive, each with the tests that show it.

L: lines, F: files, C: configuration. A row whose tests are renamed or removed fails here.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
LINES, UNTRUSTED = "sources/test_bad_lines.py", "decoders/test_untrusted_lines.py"
FILES, CONFIG = "sources/test_bad_files.py", "config/test_config_bad_inputs.py"
PAGES, TIMES = "web/test_pages.py", "decoders/test_times.py"
STRANGE = (LINES, "test_a_strange_line_is_stored_byte_for_byte")
INERT = (PAGES, "test_a_hostile_line_adds_no_element_and_no_attribute")
STAYS_TEXT = ("browser/test_hostile_pages.py", "test_hostile_text_stays_text_in_every_view")
VISIBLE = ("web/test_presentation.py", "test_what_hides_or_controls_is_shown_as_a_symbol")

ROWS: dict[str, tuple[tuple[str, str], ...]] = {
    **{f"L{n:02}": (STRANGE,) for n in (1, 2, 3, 6, 7, 8, 9, 11, 12, 13, 14, 15)},
    "L04": ((LINES, "test_l04_a_line_of_100_mib_is_cut_and_memory_stays_flat"),),
    "L05": ((LINES, "test_l05_a_line_that_never_ends_is_mentioned_once_and_skipped"),),
    "L10": ((LINES, "test_l10_a_character_split_by_a_read_boundary_stays_whole"),),
    **{f"L{n}": (INERT, STAYS_TEXT) for n in (16, 17, 18, 19, 20, 21)},
    "L22": (("test_logs.py", "test_l22_r40_text_that_looks_like_a_format_stays_literal"), INERT),
    **{f"L{n}": (INERT, VISIBLE) for n in (23, 24, 25)},
    "L26": (("decoders/test_decoders_family.py", "test_a_sample_comes_out_as_it_says"),),
    "L27": ((UNTRUSTED, "test_a_forged_second_line_is_its_own_line"),),
    "L28": (("decoders/test_decoders_family.py", "test_a_sample_comes_out_as_it_says"),),
    "L29": (
        (UNTRUSTED, "test_no_pattern_can_be_made_to_backtrack_without_bound"),
        (UNTRUSTED, "test_lines_made_to_run_long_are_decoded"),
    ),
    "L30": ((UNTRUSTED, "test_deep_json_is_an_error_of_that_line_only"),),
    "L31": ((UNTRUSTED, "test_numbers_that_do_not_fit_are_kept_as_text"),),
    "L32": ((UNTRUSTED, "test_the_last_of_two_keys_wins_and_is_flagged"),),
    "L33": ((UNTRUSTED, "test_foreign_keys_cannot_overwrite_ours"),),
    "L34": ((UNTRUSTED, "test_ten_thousand_keys_are_cut"),),
    "L35": ((TIMES, "test_a_day_that_is_none_is_an_error"),),
    "L36": ((TIMES, "test_a_time_without_a_year_is_the_latest_possible"),),
    "L37": (
        (TIMES, "test_a_time_before_the_epoch_is_clamped"),
        (TIMES, "test_a_time_after_2100_is_clamped"),
        (UNTRUSTED, "test_an_impossible_year_is_clamped"),
    ),
    "L38": (("test_exports.py", "test_a_cell_that_would_be_calculated_begins_with_an_apostrophe"),),
    "L39": ((UNTRUSTED, "test_what_is_no_address_is_none"), (UNTRUSTED, "test_an_address_is_written_in_one_way")),
    "L40": (
        ("test_redaction.py", "test_a_secret_is_masked"),
        ("test_notifications.py", "test_secrets_in_a_line_stay_here"),
    ),
    **{f"F{n:02}": ((FILES, f"test_f{n:02}_"),) for n in range(1, 28) if n not in (4, 5)},
    "F04": ((FILES, "test_f04_f05_"),),
    "F05": ((FILES, "test_f04_f05_"),),
    "F28": (("test_store_schema.py", "test_a_truncated_database_is_refused"),),
    "F29": (("test_store_schema.py", "test_a_database_that_cannot_be_written_is_refused"),),
    "F30": (("web/test_ingest_archive.py", "test_an_archive_that_tries_something_is_refused_in_little_memory"),),
    "F31": (
        ("web/test_api_ingest.py", "test_a_body_beyond_the_limit_is_refused"),
        ("web/test_ingest_archive.py", "test_an_upload_is_accepted_or_leaves_nothing_on_the_disk"),
    ),
    **{f"C{n:02}": ((CONFIG, f"test_c{n:02}_"),) for n in range(1, 16)},
}  # fmt: skip


@cache
def names(file: str) -> frozenset[str]:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("row", sorted(ROWS))
def test_a_row_has_the_tests_that_show_it(row: str) -> None:
    for file, test in ROWS[row]:
        assert any(name == test or (test.endswith("_") and name.startswith(test)) for name in names(file)), (file, test)
