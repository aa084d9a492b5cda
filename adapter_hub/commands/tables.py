"""Plain text tables with aligned columns, and the units in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .output import printable

GAP = "  "


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> str:
    """A table with one head a column; an empty cell shows as ``-``.

    Args:
        heads: names of the columns.
        rows: one cell for each column.
        right: the columns that are set to the right, for numbers.
    """
    lines = [list(heads), *([printable(cell) or "-" for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        GAP.join(
            cell.rjust(width) if head in right else cell.ljust(width)
            for cell, width, head in zip(line, widths, heads, strict=True)
        ).rstrip()
        for line in lines
    )


def facts(pairs: Iterable[tuple[str, str | Sequence[str]]]) -> str:
    """Names and values, one a line; a list takes a line for each of its items, an empty value is left out."""
    shown = [(name, [value] if isinstance(value, str) else list(value)) for name, value in pairs]
    shown = [(name, values) for name, values in shown if any(values)]
    width = max(len(name) for name, _ in shown)
    return "\n".join(
        f"{name if k == 0 else '':{width}}{GAP}{printable(value)}"
        for name, values in shown
        for k, value in enumerate(values)
    )


def size(num_bytes: int) -> str:
    """Bytes in the unit that suits them."""
    if num_bytes < 1000:
        return f"{num_bytes} B"
    for unit, bytes_of_it in (("kB", 1e3), ("MB", 1e6)):
        if num_bytes < 999.95 * bytes_of_it:
            return f"{num_bytes / bytes_of_it:.1f} {unit}"
    return f"{num_bytes / 1e9:.1f} GB"


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"
