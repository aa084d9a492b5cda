"""A request in English becomes one shell command."""

from __future__ import annotations

import random

from .shell_names import ARCHIVES, FOLDERS, OTHER_EXTENSIONS, STEMS, TEXT_EXTENSIONS, WORDS
from .shell_requests import REQUESTS
from .task import Example, Split, Task, unfenced

_INSTRUCTION = "Write one shell command. Use short options."
_POLITE_SHARE = 0.15
_MODES = ("600", "640", "644", "664", "700", "750", "755", "775", "444", "400")


def draw(rng: random.Random, split: Split) -> Example:
    """One request about files of the split."""
    command, wordings = rng.choice(REQUESTS)
    names = _draw_names(rng, split)
    wording = rng.choice(wordings)
    if not wording.endswith("?") and rng.random() < _POLITE_SHARE:
        wording = f"Please {wording[0].lower()}{wording[1:]}"
    return Example(f"{_INSTRUCTION}\n\n{wording.format(**names)}", command.format(**names))


def _draw_names(rng: random.Random, split: Split) -> dict[str, object]:
    """Something for every placeholder; things of one kind differ from each other."""
    folder, other_folder = rng.sample(FOLDERS[split], 2)
    if rng.random() < 0.3:
        folder = f"{folder}/{rng.choice([name for name in FOLDERS[split] if name not in (folder, other_folder)])}"
    stems = rng.sample(STEMS[split], 3)
    files = [f"{_decorated(rng, stem)}.{rng.choice(TEXT_EXTENSIONS[split])}" for stem in stems]
    return {
        "dir": folder,
        "dir2": other_folder,
        "name": other_folder,
        "file": files[0],
        "file2": files[1],
        "file3": files[2],
        "script": f"{stems[0]}.sh",
        "ext": rng.choice(TEXT_EXTENSIONS[split] + OTHER_EXTENSIONS[split]),
        "text": rng.choice(TEXT_EXTENSIONS[split]),
        "word": rng.choice(WORDS[split]),
        "archive": f"{rng.choice(ARCHIVES[split])}.tar.gz",
        "field": rng.randint(2, 9),
        "mode": rng.choice(_MODES),
        "n": rng.choice((rng.randint(2, 9), rng.choice((10, 12, 15, 20, 25, 30, 40, 50, 60, 75, 100, 200, 500)))),
    }


def _decorated(rng: random.Random, stem: str) -> str:
    """A stem as people number and date their files."""
    kind = rng.random()
    if kind < 0.65:
        return stem
    if kind < 0.85:
        return f"{stem}{rng.choice('_-')}{rng.choice(('old', 'new', 'final', 'v2', 'copy'))}"
    return f"{stem}{rng.choice(('', '_', '-'))}{rng.choice((1, 2, 3, 2023, 2024, 2025))}"


def normalised(command: str) -> str:
    """``command`` with single spaces and single quotes, without prompt sign and final semicolon."""
    text = " ".join(unfenced(command).replace('"', "'").split())
    return text.removeprefix("$ ").removesuffix(";").rstrip()


def score(answer: str, output: str) -> bool:
    """Whether the two are the same command, but for white space and the kind of quotes."""
    return normalised(answer) == normalised(output)


TASK = Task(
    name="shell",
    title="English to shell",
    description=(
        "Turns a request into one shell command, of some eighty kinds: ls, find, grep, wc, sort, head, tail, cp, mv, "
        "mkdir, rm, chmod, tar, du, cat and short pipes of them."
    ),
    held_out=(
        "The unseen requests are about files, folders, extensions, archives and search words that do not occur in "
        "training."
    ),
    max_new_tokens=32,
    draw=draw,
    score=score,
)
