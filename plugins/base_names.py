"""From the name that a file has for a module to the module's path in a base."""

from __future__ import annotations

import re
from collections.abc import Iterable

# What tools put in front of a flattened path: PEFT's wrapper, kohya's parts of a diffusion model, LyCORIS.
HEADS = (r"", r"base_model_model_", r"(?:lora|lycoris)_", r"lora_(?:te\d*|unet|transformer|prior)_")
MAX_PARTS = 64


class BaseNames:
    """Looks modules up among a base's sites: by path, by the end of one, or by a path with ``_`` for its dots."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = dict.fromkeys(paths)
        self._by_end: dict[str, list[str]] = {}
        self._by_flat: dict[str, list[str]] = {}
        for path in self._paths:
            for end in _ends(path):
                self._by_end.setdefault(end, []).append(path)
            self._by_flat.setdefault(path.replace(".", "_"), []).append(path)

    def find(self, name: str) -> str:
        """The path of the one module that ``name`` can mean; ``name`` itself where there is none, or several."""
        if name in self._paths:
            return name
        longer = self._by_end.get(name, [])
        shorter = [end for end in _ends(name) if end in self._paths][:1]
        return next((found[0] for found in (longer, shorter, self._flat(name)) if len(found) == 1), name)

    def _flat(self, name: str) -> list[str]:
        for head in HEADS:
            rest = re.sub(f"^{head}", "", name)
            if rest in self._by_flat:
                return self._by_flat[rest]
        return []


def _ends(path: str) -> list[str]:
    parts = path.split(".")[-MAX_PARTS:]
    return [".".join(parts[first:]) for first in range(1, len(parts))]
