"""``add --tuned-from``: a whole tuned checkpoint becomes an adapter first."""

from __future__ import annotations

import argparse
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import Settings
from ..errors import RequestError
from .output import note, printable
from .tables import size, table

if TYPE_CHECKING:
    from ..hookspecs import Kept
    from ..loading import Imported

DEFAULT_BASE = "default"
MAX_LINES = 8


def add_tuned(parser: argparse.ArgumentParser) -> None:
    """Add the flags that read REF as a checkpoint."""
    group = parser.add_argument_group(
        "tuned checkpoints",
        "With --tuned-from, REF is a whole checkpoint (a folder or a Hub id), and the adapter is what changed in it.",
    )
    group.add_argument(
        "--tuned-from",
        metavar="BASE",
        help=f"the checkpoint that the tuning started from; {DEFAULT_BASE!r} is the built-in base",
    )
    group.add_argument(
        "--keep", metavar="WAY", default="exact", help="exact, low-rank, one-bit, or a plugin's way (default: exact)"
    )
    group.add_argument("--rank", type=int, default=16, metavar="R", help="rank of low-rank pairs (default: 16)")
    group.add_argument(
        "--into", type=Path, metavar="FOLDER", help="where the adapter is written (default: in the cache, by NAME)"
    )


def import_checkpoint(args: argparse.Namespace, settings: Settings) -> Imported:
    """Write the adapter and tell, on stderr, what was kept of each changed tensor and what was lost.

    Raises:
        RequestError: the folder exists, or there is no such way to keep changes.
        AdapterError: a checkpoint cannot be read, or the two do not belong together.
    """
    from ..base.default import NAME, default_base_folder
    from ..loading import get_importer, import_tuned, open_checkpoint
    from ..plugin_manager import load_plugins

    if args.revision is not None:
        raise RequestError("--revision is of a Hub adapter.", hint="Fetch that revision of the checkpoint and name it.")
    plugins = load_plugins()
    importer = get_importer(plugins, args.keep)
    is_default = args.tuned_from == DEFAULT_BASE
    base = str(default_base_folder(settings)) if is_default else args.tuned_from
    folder = args.into or _free(Path(settings.cache_dir) / "imported" / args.name)
    imported = import_tuned(
        importer,
        plugins.owner(importer),
        open_checkpoint(base, offline=settings.offline),
        open_checkpoint(args.ref, offline=settings.offline),
        folder,
        base_name=NAME if is_default else args.tuned_from,
        rank=args.rank,
    )
    note(report(imported))
    return imported


def _free(folder: Path) -> Path:
    """The folder, or one beside it: earlier versions of the adapter keep theirs."""
    later = (folder.with_name(f"{folder.name}-{number}") for number in count(2))
    return next(path for path in chain((folder,), later) if not path.exists())


def report(imported: Imported) -> str:
    """The changed tensors of which most is lost, and the sum over all."""
    from ..loading import worst_first

    shown = worst_first(imported.kept)[:MAX_LINES]
    lines = [table(("TENSOR", "KEPT AS", "SIZE", "LOST"), map(_row, shown), right=("SIZE", "LOST"))]
    hidden = len(imported.kept) - len(shown)
    if hidden:
        lines.append(f"and {hidden} more, of which less is lost")
    stored = sum(one.stored_bytes for one in imported.kept)
    lines.append(
        f"{len(imported.kept)} changed tensors in {size(stored)}, {imported.relative_error:.1%} of the change lost "
        f"(norm of the error over norm of the change); written to {printable(str(imported.folder))}"
    )
    return "\n".join(lines)


def _row(one: Kept) -> tuple[str, str, str, str]:
    return one.name, one.form, size(one.stored_bytes), f"{one.error / one.change:.1%}" if one.change else "-"
