"""From a tuned checkpoint to the folder of an adapter, through an importer that a plugin brings."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import AdapterHubError, PluginError, RequestError
from ..hookspecs import Importer, Kept
from ..plugin_manager import Plugins
from .checkpoint import Checkpoint


@dataclass(frozen=True)
class Imported:
    """What became of a tuned checkpoint: the adapter's folder, and each changed tensor with what was lost of it."""

    folder: Path
    importer: str
    kept: tuple[Kept, ...]

    @property
    def relative_error(self) -> float:
        """Norm of all that was lost over the norm of all that changed."""
        change = math.hypot(*(one.change for one in self.kept))
        return math.hypot(*(one.error for one in self.kept)) / change if change else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**asdict(self), "folder": str(self.folder), "relative_error": self.relative_error}


def get_importer(plugins: Plugins, name: str) -> Importer:
    """The importer of that name.

    Raises:
        RequestError: there is none; the message lists those there are.
    """
    found = next((importer for importer in plugins.importers if importer.name == name), None)
    if found is None:
        raise RequestError(f"there is no way {name!r} to keep what tuning changed.", hint=f"Ways: {_names(plugins)}.")
    return found


def import_tuned(
    importer: Importer, owner: str, base: Checkpoint, tuned: Checkpoint, folder: Path, *, base_name: str, rank: int = 16
) -> Imported:
    """Write what ``tuned`` changed in ``base`` as an adapter into ``folder``, which appears whole or not at all.

    Raises:
        RequestError: ``folder`` exists already, or ``rank`` is not above 0.
        AdapterError: the two checkpoints do not belong together.
        PluginError: the importer, brought by the plugin ``owner``, broke.
    """
    if rank < 1:
        raise RequestError(f"a rank of {rank} keeps nothing.", hint="Give one above 0.")
    if folder.exists():
        raise RequestError(f"{folder} exists already.", hint="Remove it, or choose another folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.part-", dir=folder.parent) as scratch:
        whole = Path(scratch) / folder.name
        whole.mkdir()
        try:
            kept = importer.write(base, tuned, whole, base_name=base_name, rank=rank)
        except AdapterHubError:
            raise
        except Exception as error:
            raise PluginError(
                f"plugin {owner!r} fails in {importer.name}.write: {type(error).__name__}: {error}.",
                hint="Nothing was changed; report it to the plugin's author.",
            ) from error
        whole.rename(folder)
    return Imported(folder, importer.name, tuple(kept))


def worst_first(kept: Sequence[Kept]) -> list[Kept]:
    """Tensors by the share of their change that is lost."""
    return sorted(kept, key=lambda one: -(one.error / one.change if one.change else 0.0))


def _names(plugins: Plugins) -> str:
    return ", ".join(f"{importer.name} ({importer.help})" for importer in plugins.importers) or "none"
