"""The base model: a frozen transformers model, its tokenizer, its sites and its identity."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from ..errors import BaseModelError, UnknownSite
from .dense import dense_weight
from .layout import sequence_first
from .sites import Site, find_sites, fingerprint


@dataclass(frozen=True)
class BaseReport:
    """What a base holds. Bytes count each shared tensor once.

    ``bits_per_weight`` is taken over the quantised linears with their constants, and is None where nothing
    is quantised.
    """

    name: str
    revision: str | None
    architecture: str
    device: str
    compute_dtype: str
    parameters: int
    weight_bytes: int
    constant_bytes: int
    bits_per_weight: float | None
    sites: int
    fingerprint: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


class BaseModel:
    """A frozen causal language model with everything that an adapter's proof asks about it.

    Args:
        model: a transformers causal LM in eval mode; nothing here ever writes to its weights.
        tokenizer: its tokenizer.
        name: Hub id or folder that it came from; compared with the base that an adapter records.
        revision: commit of that Hub id, where known.
        aliases: further names under which adapters may record this base.
        compute_dtype: type of the activations that its sites see.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        revision: str | None = None,
        aliases: tuple[str, ...] = (),
        compute_dtype: torch.dtype | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.name = name
        self.revision = revision
        self.aliases = aliases
        self.compute_dtype: torch.dtype = compute_dtype or model.dtype
        self.device: torch.device = model.device
        self.sites: Mapping[str, Site] = MappingProxyType(find_sites(model))
        self._modules: dict[str, nn.Module] = dict(model.named_modules())
        self.fingerprint = fingerprint(model, self.sites, self.parameter)

    def site(self, path: str) -> Site:
        """The site at ``path``.

        Raises:
            UnknownSite: the base has none there; the message names the closest ones.
        """
        found = self.sites.get(path)
        if found is None:
            close = difflib.get_close_matches(path, self.sites, n=2, cutoff=0.6)
            raise UnknownSite(
                f"the base {self.name} has no module {path!r}.",
                hint=f"Close to it are {' and '.join(close)}." if close else "Is the adapter for another base?",
            )
        return found

    def module(self, path: str) -> nn.Module:
        """The live module at a site's path."""
        return self._modules[path]

    @functools.cached_property
    def sequence_first(self) -> frozenset[str]:
        """Paths of the sites that see [tokens, rows, n]. Found out by running the model, so not before its first use.

        Raises:
            BaseModelError: the model brings its own code, and that does not run on token ids alone.
        """
        try:
            return sequence_first(self.model)
        except Exception as error:  # somebody else's code
            raise BaseModelError(
                f"the base {self.name} does not run on token ids alone: {type(error).__name__}: {error}.",
                hint="Name a causal LM.",
            ) from error

    def parameter(self, path: str, name: str) -> torch.Tensor:
        """A parameter as the module holds it: packed where a quantiser packed it."""
        found = getattr(self.module(path), name)
        assert isinstance(found, torch.Tensor)
        return found

    def dense_weight(self, path: str) -> torch.Tensor:
        """W [out, in] of a linear site in float32, dequantised where it is stored in 4 bit.

        Raises:
            UnsupportedFeature: it is stored in a way that cannot be read as numbers.
        """
        return dense_weight(path, self.module(path))

    def packed_sites(self) -> list[str]:
        """Paths of the linear sites whose weight a quantiser keeps in fewer bits than numbers have."""
        linear = [path for path, site in self.sites.items() if site.kind == "linear"]
        return [path for path in linear if not self.parameter(path, "weight").is_floating_point()]

    def head_tied_to(self, path: str) -> str | None:
        """Path of the output head if it shares its weight with the embedding at ``path``, else None."""
        head = self.model.get_output_embeddings()
        if head is None or getattr(head, "weight", None) is not getattr(self.module(path), "weight", None):
            return None
        return next(name for name, module in self._modules.items() if module is head)

    def report(self) -> BaseReport:
        """Count what the base holds right now."""
        weights, constants, packed_weights, packed_bytes = 0, 0, 0, 0
        count = 0
        for parameter in self.model.parameters():
            state = getattr(parameter, "quant_state", None)
            extra = _constant_bytes(state) if state is not None else 0
            logical = state.shape.numel() if state is not None else parameter.numel()
            weights += parameter.nbytes
            constants += extra
            count += logical
            if state is not None:
                packed_weights += logical
                packed_bytes += parameter.nbytes + extra
        return BaseReport(
            name=self.name,
            revision=self.revision,
            architecture=type(self.model).__name__,
            device=str(self.device),
            compute_dtype=str(self.compute_dtype).removeprefix("torch."),
            parameters=count,
            weight_bytes=weights,
            constant_bytes=constants,
            bits_per_weight=round(8 * packed_bytes / packed_weights, 3) if packed_weights else None,
            sites=len(self.sites),
            fingerprint=self.fingerprint,
        )


def _constant_bytes(state: Any) -> int:
    """Bytes of a 4-bit weight's block scales, doubly quantised or not; the shared code table is left out."""
    nested = getattr(state, "state2", None)
    own: int = state.absmax.nbytes
    return own + (nested.absmax.nbytes + state.offset.nbytes if state.nested and nested is not None else 0)
