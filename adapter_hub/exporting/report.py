"""What became of an export."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..hookspecs import Kept


@dataclass(frozen=True)
class Exported:
    """A folder that was written.

    Args:
        folder: where.
        form: ``model``, or the name of the exporter.
        files: names of the files in it.
        bytes: size of all of them.
        weights: whose weights are in it, in words; empty where it holds an adapter alone.
        kept: what was kept of each site of an adapter; empty for a model, which holds everything.
        warnings: what was found doubtful in the files that were read for it.
    """

    folder: Path
    form: str
    files: tuple[str, ...]
    bytes: int
    weights: str = ""
    kept: tuple[Kept, ...] = ()
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, folder: Path, form: str, *, weights: str = "", kept: tuple[Kept, ...] = ()) -> Exported:
        """The report on a finished folder."""
        files = sorted(path for path in folder.iterdir() if path.is_file())
        return cls(
            folder, form, tuple(path.name for path in files), sum(path.stat().st_size for path in files), weights, kept
        )

    @property
    def relative_error(self) -> float:
        """Norm of all that was lost over the norm of all that the adapter changes, where that was measured."""
        return relative_error(self.kept)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**asdict(self), "folder": str(self.folder), "relative_error": self.relative_error}


def relative_error(kept: Sequence[Kept]) -> float:
    """Norm of all that was lost over the norm of all that was to be kept."""
    change = math.hypot(*(one.change for one in kept))
    return math.hypot(*(one.error for one in kept)) / change if change else 0.0
