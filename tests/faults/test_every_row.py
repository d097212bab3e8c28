"""No row is forgotten: the names of the tests and of their cases, read from the other modules of this folder."""

import importlib
import re
from pathlib import Path

ROWS = {
    *(f"A{number}" for number in range(1, 33)),
    *(f"M{number}" for number in range(1, 21)),
    *(f"T{number}" for number in (*range(1, 9), *range(12, 18), 19, 20)),
    *(f"C{number}" for number in (*range(1, 6), *range(7, 15), 15, 18, 19, 22)),
    *("S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S10", "S11", "S12", "S13", "S14"),
    *(f"D{number}" for number in range(1, 8)),
    *("V1", "V2", "V3", "V4", *(f"V{number}" for number in range(6, 13))),
    *("O1", "O5", "O6", "O7", *(f"O{number}" for number in range(8, 13))),
}
TESTS = sorted(path.stem for path in Path(__file__).parent.glob("test_*_rows.py"))


def covered() -> set[str]:
    """Rows named by a test function (`test_c1_...`) or by a case of one (`A5`, `A7-flac`)."""
    found = set()
    for module in TESTS:
        for name, function in vars(importlib.import_module(f"tests.faults.{module}")).items():
            if not name.startswith("test_"):
                continue
            if match := re.match(r"test_([a-z]\d+)_", name):
                found.add(match[1].upper())
            for mark in getattr(function, "pytestmark", []):
                if mark.name == "parametrize":
                    found.update(match[0] for case in mark.args[1] if (match := re.match(r"[A-Z]\d+\b", str(case))))
    return found


def test_every_row_has_a_test():
    assert len(TESTS) >= 9
    found = covered()
    assert not ROWS - found, "rows without a test"
    assert not found - ROWS, "rows that no one asked for: a name is mistyped"
