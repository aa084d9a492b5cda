"""Exporter: any adapter as a plain LoRA in PEFT's folder format, which PEFT, vLLM and SGLang serve.

What is low rank in the canonical form is written without loss: ``B A`` with every scale folded in, so that alpha is
the rank. Everything else is a change of W that has no rank of its own; it is kept as the nearest product of a rank
that the user names, and what is lost is told. Whole parameters become saved modules, replaced rows trained tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from adapter_hub.errors import UnsupportedFeature
from adapter_hub.hookspecs import Exporter, Kept, hookimpl
from adapter_hub.updates import (
    EmbeddingUpdate,
    LinearUpdate,
    ParameterUpdate,
    SiteUpdate,
    merged_table,
    merged_weight,
    weight_change,
)
from adapter_hub.updates.low_rank import as_pair, best_pair, factors, is_low_rank, norm, product_norm, shorter_pair
from adapter_hub.updates.sums import own_bias, own_table

from .peft_export_config import Stored, config_of, write_config
from .peft_folder import PLAIN_START, WEIGHTS

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel
    from adapter_hub.loading import LoadedAdapter

NAME = "lora"
BIAS = frozenset({"bias"})
# A bias that scales were taken from and given back to differs from the base's by rounding alone.
SAME_BIAS = 1e-5


class PeftExport:
    """Pairs at linears and embeddings, saved modules, trained tokens and biases."""

    name = NAME
    help = "a plain LoRA folder of PEFT's"
    exact = False

    def write(
        self, adapter: LoadedAdapter, base: BaseModel, folder: Path, *, rank: int | None, record: Mapping[str, Any]
    ) -> list[Kept]:
        """See ``Exporter``.

        Raises:
            UnsupportedFeature: a site has no exact pair and no rank is named, or PEFT has no place for it.
        """
        writer = _Writer(base, rank)
        for path, update in adapter.updates.items():
            writer.add(path, update)
        writer.finish()
        # Sites may share a tensor here, and in PEFT's files they do not.
        save_file({PLAIN_START + name: t.clone() for name, t in writer.tensors.items()}, folder / WEIGHTS)
        write_config(folder, config_of(writer.stored, base, adapter.base_name or base.name))
        return writer.kept


class _Writer:
    """Collects tensors in PEFT's names, site by site."""

    def __init__(self, base: BaseModel, rank: int | None) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.kept: list[Kept] = []
        self.stored = Stored()
        self._base = base
        self._rank = rank
        self._head = next((p for p in base.sites if base.module(p) is base.model.get_output_embeddings()), None)

    def add(self, path: str, update: SiteUpdate) -> None:
        """Write one site in the closest form that PEFT has for it."""
        if isinstance(update, ParameterUpdate):
            self._save_module(path, dict(update.parameters))
        elif self._base.site(path).kind == "embedding":
            self._add_table(path, update)
        elif self._base.site(path).kind == "linear":
            self._add_linear(path, update)
        else:
            raise UnsupportedFeature(
                f"site {path}: {type(update).__name__} changes it in a way of its own, which no low-rank pair can."
            )

    def finish(self) -> None:
        """Write what depends on which sites have pairs."""
        self._drop_tied_rows()
        for path in self.stored.pair_biases.keys() - self.stored.ranks.keys():
            self._put_zero_pair(path)
        if not self.stored.ranks:  # PEFT builds no adapter without one
            self._put_zero_pair(next(path for path, site in self._base.sites.items() if site.kind == "linear"))
        if self.stored.pair_biases:
            for path in self.stored.ranks:
                if self._base.site(path).kind == "embedding":
                    raise UnsupportedFeature(
                        f"site {path}: PEFT has no biases of pairs beside a pair for an embedding.",
                        hint="Export the adapter as a model.",
                    )
                own = torch.zeros(self._base.site(path).out_features)
                self.tensors[f"{path}.lora_B.bias"] = self.stored.pair_biases.get(path, own)
        for path, bias in self.stored.biases.items():
            self.tensors[f"{path}.base_layer.bias" if path in self.stored.ranks else f"{path}.bias"] = bias

    def _drop_tied_rows(self) -> None:
        """PEFT gives a tied head the trained tokens of its table by itself."""
        for table, ids in list(self.stored.tokens.items()):
            head = self._base.head_tied_to(table) if self._base.site(table).kind == "embedding" else None
            if head is not None and self.stored.tokens.get(head) == ids:
                del self.stored.tokens[head], self.tensors[_token_name(head)]

    def _add_linear(self, path: str, update: SiteUpdate) -> None:
        base = self._base
        update = as_pair(update, lambda: base.dense_weight(path).cpu())
        if isinstance(update, LinearUpdate):
            if update.tensors().keys() == {"rows", "row_ids"}:
                self._save_rows(path, update)
                return
            if (
                path == self._head
                and update.D is not None
                and update.out_scale is not None
                and not update.out_scale.any()
            ):
                weight, bias = merged_weight(update, base.dense_weight(path).cpu(), own_bias(path, base), path=path)
                weight = weight.T if isinstance(base.module(path), Conv1D) else weight
                self._save_module(path, {"weight": weight} | ({} if bias is None else {"bias": bias}))
                return
            if is_low_rank(update, beside=BIAS) or update.tensors().keys() <= BIAS:
                if update.A is not None:
                    self._add_pair(path, *factors(update))
                self._add_bias(path, update.bias)
                return
        own = own_bias(path, base)
        change, moved = weight_change(update, base.dense_weight(path).cpu(), own, path=path, module=base.module(path))
        self._add_change(path, change)
        self._add_bias(path, moved)

    def _add_table(self, path: str, update: SiteUpdate) -> None:
        if isinstance(update, EmbeddingUpdate):
            given = update.tensors().keys()
            if given == {"rows", "row_ids"}:
                self._save_rows(path, update)
                return
            if given == {"table"} and update.table is not None:
                self._save_module(path, {"weight": update.table})
                return
            if is_low_rank(update):
                self._add_pair(path, *factors(update))
                return
        own = own_table(path, self._base)
        new = merged_table(update, own, path=path, module=self._base.module(path))
        if len(new) != len(own):
            self._save_module(path, {"weight": new})
            return
        self._add_change(path, (new - own).T)

    def _add_pair(self, path: str, A: Tensor, B: Tensor) -> None:
        """A low-rank pair as it is, or shortened to the rank that is asked for or that its matrix can have."""
        change, lost, form = product_norm(A, B), 0.0, f"rank {len(A)}"
        limit = min(self._rank or len(A), A.shape[1], B.shape[0])
        if len(A) > limit:
            A, B, lost = shorter_pair(A, B, limit)
            form = f"rank {limit} of {form.removeprefix('rank ')}"
        self._put(path, A, B, Kept(path, form, A.nbytes + B.nbytes, change, lost))

    def _add_change(self, path: str, change: Tensor) -> None:
        if self._rank is None:
            raise UnsupportedFeature(
                f"site {path}: what the adapter does there is no product of low rank.",
                hint="Name the rank of the nearest one (rank=..., --rank): what is lost of each site is told.",
            )
        rank = min(self._rank, *change.shape)
        A, B = best_pair(change, rank)
        kept = Kept(path, f"rank {rank} of dense", A.nbytes + B.nbytes, norm(change), norm(change - B @ A))
        self._put(path, A, B, kept)

    def _put(self, path: str, A: Tensor, B: Tensor, kept: Kept) -> None:
        table = self._base.site(path).kind == "embedding"
        names = (".lora_embedding_A", ".lora_embedding_B") if table else (".lora_A.weight", ".lora_B.weight")
        self.tensors[path + names[0]] = A.float().contiguous()
        self.tensors[path + names[1]] = B.float().contiguous()
        self.stored.ranks[path] = len(A)
        self.kept.append(kept)

    def _put_zero_pair(self, path: str) -> None:
        site = self._base.site(path)
        A, B = torch.zeros(1, site.in_features), torch.zeros(site.out_features, 1)
        self._put(path, A, B, Kept(path, "nothing but a bias", A.nbytes + B.nbytes, 0.0, 0.0))

    def _add_bias(self, path: str, moved: Tensor | None) -> None:
        """Where the base has a bias, the whole new one beside the pair; else one of the pair's own."""
        own = own_bias(path, self._base)
        if moved is None or not moved.any():
            return
        if own is None:
            self.stored.pair_biases[path] = moved.float()
        elif moved.abs().max() > SAME_BIAS * own.abs().max():
            self.stored.biases[path] = own + moved.float()

    def _save_rows(self, path: str, update: LinearUpdate | EmbeddingUpdate) -> None:
        assert update.rows is not None
        assert update.row_ids is not None
        self.tensors[_token_name(path)] = update.rows.float().contiguous()
        self.stored.tokens[path] = update.row_ids.tolist()
        self.kept.append(Kept(path, "trained tokens", update.rows.nbytes, 0.0, 0.0))

    def _save_module(self, path: str, parameters: dict[str, Tensor]) -> None:
        """Whole parameters, all that a module has; longer tables are not named in the config, as PEFT has them."""
        site = self._base.site(path)
        own = {
            name: self._base.parameter(path, name).detach().float().cpu()
            for name in site.parameters.keys() - parameters
        }
        for name, tensor in {**own, **parameters}.items():
            self.tensors[f"{path}.{name}"] = tensor.float().contiguous()
        weight = parameters.get("weight")
        if weight is None or weight.shape == site.parameters["weight"]:
            self.stored.modules.append(path)
        size = sum(tensor.nbytes for tensor in parameters.values())
        self.kept.append(Kept(path, "whole", size, 0.0, 0.0))


def _token_name(path: str) -> str:
    return f"{path}.token_adapter.trainable_tokens_delta"


@hookimpl
def adapter_hub_exporters() -> list[Exporter]:
    """The one exporter here."""
    return [PeftExport()]
