"""The card (README.md) that goes with what is written: whose weights they are, and how they came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..base import BaseModel
from ..base.stored import StoredBase

CARD = "README.md"


@dataclass(frozen=True)
class Card:
    """The facts of an export.

    Args:
        adapter: what the adapter was called.
        digest: of its content; empty where that is just being written.
        source: where it came from.
        variant: its type.
        base_name: the base's.
        weights: whose weights it was folded into, in words.
        composition: how the adapter was composed of others, where it was; see ``Composed.record``.
        notes: what the reader should know, a sentence each.
    """

    adapter: str
    digest: str
    source: str
    variant: str
    base_name: str
    weights: str = ""
    composition: Mapping[str, Any] | None = None
    notes: Sequence[str] = field(default=())

    def text(self, form: str) -> str:
        """Markdown with the metadata that hubs read in front; ``form`` is a word for what was written."""
        lines = [
            "---",
            f"base_model: {self.base_name}",
            "tags: [adapter_hub]",
            "---",
            "",
            f"# {_plain(self.adapter)}",
            "",
            f"Written by adapter_hub, as {form}.",
            "",
            "| | |",
            "|---|---|",
            f"| base | {_plain(self.base_name)} |",
            f"| adapter | {_plain(self.adapter)}, {_plain(self.variant)}, from {_plain(self.source)} |",
        ]
        if self.digest:
            lines.append(f"| its sha256 | `{self.digest}` |")
        if self.weights:
            lines.append(f"| weights | {_plain(self.weights)} |")
        if self.composition is not None:
            lines += ["", "## Composition", "", *_parents(self.composition)]
        if self.notes:
            lines += ["", *(f"- {_plain(note)}" for note in self.notes)]
        return "\n".join(lines) + "\n"


def weights_of(base: BaseModel) -> str:
    """Whose weights a base gives, in words."""
    if isinstance(base, StoredBase):
        return f"of the full-precision checkpoint {base.name}"
    state = next((s for p in base.model.parameters() if (s := getattr(p, "quant_state", None)) is not None), None)
    if state is None:
        return f"of {base.name} as it was loaded, in {str(base.model.dtype).removeprefix('torch.')}"
    return (
        f"of {base.name} dequantised from {state.quant_type}: they carry the quantiser's error, and are not those of "
        "the original checkpoint"
    )


def _parents(composition: Mapping[str, Any]) -> list[str]:
    options = ", ".join(f"{name} {value}" for name, value in composition.get("options", {}).items())
    method = f"Method `{composition['method']}`" + (f" ({options})" if options else "")
    seed, error = composition.get("seed"), composition.get("relative_error")
    told = ("" if seed is None else f", seed {seed}") + (f"; relative error {error:.3g}" if error else "")
    return [
        f"{method}{told}.",
        "",
        "| adapter | weight | sha256 |",
        "|---|---|---|",
        *(f"| {_plain(p['name'])} | {p['weight']:g} | `{p['digest']}` |" for p in composition["parents"]),
    ]


def _plain(text: str) -> str:
    """A text that cannot break out of its cell: names of folders may hold anything."""
    return "".join(c if c.isprintable() else " " for c in text).replace("|", "\\|")
