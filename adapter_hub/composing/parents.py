"""The adapters that a composition is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from ..base import BaseModel
from ..engine import vocabulary_of
from ..errors import BaseMismatch, CorruptFile, RequestError, UnsupportedFeature
from ..loading import LoadedAdapter
from ..store import AdapterInfo
from ..store.expression import check_weight


@dataclass(frozen=True)
class Parent:
    """One adapter of a composition.

    Args:
        name: as it was named.
        weight: of its effect.
        loaded: the adapter in host memory.
        scales: by path, the constants that were folded into its low-rank products.
    """

    name: str
    weight: float
    loaded: LoadedAdapter
    scales: Mapping[str, float] = field(default_factory=dict)


def check_parents(weights: Mapping[str, float]) -> None:
    """Raise ``RequestError`` unless there is at least one adapter, each has a finite weight, and one is not zero."""
    if not weights:
        raise RequestError("a composition of no adapters was asked for.", hint="Name at least one, with its weight.")
    for name, weight in weights.items():
        check_weight(name, weight)
    if not any(weights.values()):
        raise RequestError("all weights of the composition are zero: it would be the base.", hint="Give one a weight.")


def hold_same_base(infos: Sequence[AdapterInfo], base: BaseModel) -> None:
    """Raise ``BaseMismatch`` unless every adapter was proven against this base."""
    for info in infos:
        if info.base_fingerprint != base.fingerprint:
            raise BaseMismatch(
                f"adapter {info.name!r} was proven against another base ({info.base_name or 'unnamed'}, "
                f"{info.base_fingerprint[:12]}) than this one ({base.name}, {base.fingerprint[:12]}).",
                hint="Adapters of one base can be composed. If it fits this one too, register it here again.",
            )


def hold_one_vocabulary(parents: Sequence[Parent], base: BaseModel) -> None:
    """Raise ``UnsupportedFeature`` where adapters add different numbers of tokens: ids mean different things."""
    sizes = {parent.name: vocabulary_of(base, parent.loaded.updates) for parent in parents}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise UnsupportedFeature(
            f"the adapters know different numbers of tokens: {told}.",
            hint="Adapters that add tokens can be composed with others that add the same ones.",
        )


def common_voice(parents: Sequence[Parent], base: BaseModel) -> tuple[Path | None, str | None, bool]:
    """Tokenizer folder and chat template that all parents speak with, and whether they agree; else the base's.

    Raises:
        UnsupportedFeature: they do not agree, and add tokens that only their own tokenizers know.
        CorruptFile: a tokenizer cannot be read.
    """
    voices = {(_words(parent.loaded.tokenizer), parent.loaded.chat_template) for parent in parents}
    first = parents[0].loaded
    if len(voices) == 1:
        return first.tokenizer, first.chat_template, True
    if vocabulary_of(base, first.updates) > vocabulary_of(base, {}):
        raise UnsupportedFeature(
            f"{' and '.join(parent.name for parent in parents)} add tokens and have different tokenizers.",
            hint="Adapters that add tokens can be composed with others that add the same ones.",
        )
    return None, None, False


def _words(folder: Path | None) -> Any:
    """All that makes a tokenizer what it is, to compare by."""
    if folder is None:
        return None
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the Rust tokenizers raise nothing more precise
        raise CorruptFile(
            f"the tokenizer in {folder} cannot be read: {type(error).__name__}: {error}.", hint="Save it again."
        ) from error
    inner = getattr(tokenizer, "backend_tokenizer", None)
    words = inner.to_str() if inner is not None else tuple(sorted(tokenizer.get_vocab().items()))
    return words, str(tokenizer.special_tokens_map), str(tokenizer.chat_template)
