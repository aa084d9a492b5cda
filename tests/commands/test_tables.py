"""Alignment and units."""

import pytest

from adapter_hub.commands.tables import duration, facts, size, table


def test_columns_are_aligned_and_empty_cells_marked():
    text = table(("NAME", "SITES"), [("a", "7"), ("longer", "210"), ("", "")], right=("SITES",))
    assert text.splitlines() == ["NAME    SITES", "a           7", "longer    210", "-           -"]


def test_cells_cannot_steer_the_terminal():
    assert table(("NAME",), [("a\x1b[2J\nb",)]).splitlines() == ["NAME", r"a\x1b[2J\nb"]


def test_facts_take_a_line_an_item_and_leave_empty_ones_out():
    text = facts([("name", "sql"), ("gone", ""), ("sites", ["one", "two"]), ("none", [])])
    assert text.splitlines() == ["name   sql", "sites  one", "       two"]


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_960, "1.0 MB"),
        (4_900_000, "4.9 MB"),
        (12_345_000_000, "12.3 GB"),
        (5 * 10**12, "5000.0 GB"),
    ],
)
def test_size(num_bytes, text):
    assert size(num_bytes) == text


@pytest.mark.parametrize(("seconds", "text"), [(2.4e-6, "2 µs"), (0.0353, "35.3 ms"), (1.25, "1.2 s")])
def test_duration(seconds, text):
    assert duration(seconds) == text
