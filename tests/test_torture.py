"""Torture files: each is read as its truth says, or refused at the right line."""

import pytest

from conftest import REAL_EXPORTS, Command
from torture import ROOT, Case, cases, ours, score_ours

pytestmark = pytest.mark.real

CASES = list(cases()) if REAL_EXPORTS.is_dir() else []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.file)
def test_a_torture_file_is_read_as_its_truth_says_or_refused_at_the_right_line(case: Case) -> None:
    if case.file.endswith("all-empty.csv"):
        assert score_ours(case) == "refused"  # it has no cell at all
        return
    rows, lines = ours(case)
    assert tuple(lines) == case.refused
    right = iter(case.rows)
    assert all(any(row == one for one in right) for row in rows if row is not None)
    assert score_ours(case) == ("refused" if case.refused else "exact")


def test_the_file_without_a_byte_is_refused(rd_import: Command) -> None:
    done = rd_import("check", ROOT / "pollock/file_no_payload.csv", "--type", "SALE")
    assert done.code == 2
    assert "0 bytes" in done.err


def test_a_header_without_the_expected_columns_is_refused(rd_import: Command) -> None:
    path = ROOT / "csv-test-data/bad-header-wrong-header.csv"
    done = rd_import("check", path, "--type", "SALE", "--rename", "email=foo")
    assert done.code == 2
    assert "`qux`, `quux`, `quuz`" in done.err


def test_without_a_flag_greek_text_is_asked_about(rd_import: Command) -> None:
    """No single-byte encoding can be proved, and no reading makes Portuguese words."""
    path = ROOT / "frictionless/table-infer-iso-8859-7.csv"
    words = ("--type", "CONVERSION", "--set", "email=a@example.com")
    asked = rd_import("check", path, *words, "--set", "conversion_identifier=x")
    assert asked.code == 7
    assert "--encoding" in asked.err
    told = rd_import(
        "check", path, *words, "--set", "conversion_identifier=x", "--encoding", "iso-8859-7"
    )
    assert told.code == 0
    assert "Λεωνιδας" in told.out
