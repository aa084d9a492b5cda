"""Where in a folder the adapter lies: it is the folder itself, or a file or folder in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import UnknownFormat
from ..hookspecs import Format
from .files import read_json

# A trainer's checkpoint is named after its step, and the last one's state says which was best.
CHECKPOINT = re.compile(r"checkpoint-(\d+)")
STATE = "trainer_state.json"
MAX_STATE_BYTES = 64 << 20  # it holds a line for each step that was logged
MAX_FOLDERS, MAX_FILES = 1000, 100


@dataclass(frozen=True)
class Place:
    """A folder or file that a format recognises; ``warnings`` say why it is this one."""

    path: Path
    format: Format
    warnings: tuple[str, ...] = ()


def find_place(path: Path, recognise: Callable[[Path], Format | None]) -> Place | None:
    """The adapter at ``path``, or the one that lies in it (trainers and PEFT nest them). None where there is none.

    Several checkpoints of one training count as one adapter: the best that its trainer recorded, else the last.

    Raises:
        UnknownFormat: there are several, and nothing says which is meant.
        CorruptFile: the trainer's record cannot be read.
    """
    if path.is_file() and (whole := recognise(path.parent)) is not None and path in whole.files(path.parent):
        return Place(path.parent, whole)  # the weights of a folder that says more of them
    own = recognise(path)
    if own is not None:
        return Place(path, own)
    found = {inner.name: fmt for inner in _inner(path) if (fmt := recognise(inner)) is not None}
    if not found:
        return None
    steps = {name: int(match[1]) for name in found if (match := CHECKPOINT.fullmatch(name))}
    if len(found) == 1:
        name = next(iter(found))
        return Place(path / name, found[name])
    if len(steps) == len(found):
        name, why = _best(path, sorted(steps, key=lambda name: steps[name]))
        return Place(path / name, found[name], (why,))
    names = sorted(found)
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    raise UnknownFormat(f"{path} holds {len(names)} adapters: {shown}.", hint=f"Name one: {path / names[0]}.")


def _inner(path: Path) -> list[Path]:
    """What lies in a folder; a file has nothing in it."""
    if not path.is_dir():
        return []
    found = sorted(path.iterdir())
    folders = sum(inner.is_dir() for inner in found)
    if folders > MAX_FOLDERS or len(found) - folders > MAX_FILES:
        raise UnknownFormat(
            f"{path} is no adapter, and {len(found)} files and folders lie in it.", hint="Name the adapter's own."
        )
    return found


def _best(path: Path, names: list[str]) -> tuple[str, str]:
    """The name of the checkpoint to take, of those in the order of their steps, and why."""
    last = names[-1]
    state = path / last / STATE
    recorded = read_json(state, MAX_STATE_BYTES).get("best_model_checkpoint") if state.is_file() else None
    if not isinstance(recorded, str) or not recorded:
        return last, f"{last} is taken, the last of {len(names)} checkpoints in {path}: its trainer names no best."
    best = re.split(r"[/\\]", recorded)[-1]
    if best not in names:
        raise UnknownFormat(
            f"{path} holds {len(names)} checkpoints, and not {best}, which {state} records as the best.",
            hint=f"Name one: {path / last}.",
        )
    return best, f"{best} is taken, the best of {len(names)} checkpoints in {path} by {STATE} of {last}."
