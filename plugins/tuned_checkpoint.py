"""Importers: a tuned checkpoint and its base become an adapter of the variant ``tuned_weights``.

Only what tuning changed is kept, in one of three ways: whole parameters; low-rank pairs, the best ones by SVD (Eckart
and Young); or one bit a weight with a scale a row (after BitDelta, Liu et al. 2024, arXiv 2402.10193, equation 3: the
scale that loses least is the mean of what the bits stand for).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from adapter_hub.errors import NotFinite, ShapeMismatch, UnsupportedFeature
from adapter_hub.hookspecs import Importer, Kept, hookimpl
from adapter_hub.loading.checkpoint import Checkpoint
from adapter_hub.updates.linear import pack_signs, unpack_signs
from adapter_hub.updates.low_rank import best_pair, norm

from .native_folder import write_folder
from .tuned_weights import NAME
from .weight_changes import LOW_RANK, ONE_BIT

# Stored tensors by their names' ends, the change that they stand for, and a word for the form.
Form = tuple[dict[str, Tensor], Tensor, str]
# From a change, a rank and the type that factors are stored in; None keeps the tuned parameter whole.
Keep = Callable[[Tensor, int, torch.dtype], Form | None]


class TunedCheckpoint:
    """One way to keep what changed in linears [out, in] and in embeddings [vocab, dim]; None keeps them whole."""

    def __init__(self, name: str, help: str, linear: Keep | None, table: Keep | None) -> None:
        self.name = name
        self.help = help
        self._linear = linear
        self._table = table

    def write(self, base: Checkpoint, tuned: Checkpoint, folder: Path, *, base_name: str, rank: int) -> list[Kept]:
        """Go through both checkpoints tensor by tensor, so that only one pair is in memory at a time.

        Raises:
            UnsupportedFeature: the two are not of one model, or nothing changed.
            ShapeMismatch: a tensor has another shape in the two.
            NotFinite: a tuned tensor holds NaN or infinity.
        """
        tensors: dict[str, Tensor] = {}
        kept = []
        matrices = _matrices(base.folder)
        for name, own, new in _changed(base, tuned):
            change, module = new.float() - own.float(), matrices.get(name)
            if isinstance(module, Conv1D):
                change = change.T  # it keeps [in, out]
            form = self._form(module, change, rank, new.dtype)
            if form is None:
                tensors[name] = new
                kept.append(Kept(name, "whole", new.nbytes, norm(change), 0.0))
                continue
            stored, restored, word = form
            path = name.removesuffix(".weight")
            tensors.update({path + end: tensor for end, tensor in stored.items()})
            stored_bytes = sum(tensor.nbytes for tensor in stored.values())
            kept.append(Kept(name, word, stored_bytes, norm(change), norm(change - restored)))
        if not kept:
            raise UnsupportedFeature(
                f"{tuned.folder} differs from {base.folder} in no tensor: there is nothing to add."
            )
        config = {"base_model_name_or_path": base_name, "relative_error": relative_error(kept)}
        write_folder(folder, NAME, tensors, config)
        return kept

    def _form(self, module: nn.Module | None, change: Tensor, rank: int, dtype: torch.dtype) -> Form | None:
        keep = self._table if isinstance(module, nn.Embedding) else self._linear
        return None if module is None or keep is None else keep(change, rank, dtype)


def relative_error(kept: list[Kept]) -> float:
    """Norm of all that is lost over the norm of all that changed."""
    change = math.hypot(*(one.change for one in kept))
    return round(math.hypot(*(one.error for one in kept)) / change, 6) if change else 0.0


def keep_low_rank(change: Tensor, rank: int, dtype: torch.dtype) -> Form | None:
    """The best pair of ``rank``, unless that is no smaller than the matrix."""
    rows, columns = change.shape
    if rank * (rows + columns) >= rows * columns:
        return None
    A, B = (factor.to(dtype) for factor in best_pair(change, rank))
    return dict(zip(LOW_RANK, (A, B), strict=True)), B.float() @ A.float(), f"rank {rank}"


def keep_one_bit(change: Tensor, _rank: int, _dtype: torch.dtype) -> Form | None:
    """Signs, and the mean size of each row."""
    signs, scale = pack_signs(change), change.abs().mean(dim=1)
    restored = unpack_signs(signs, change.shape[1]) * scale.unsqueeze(1)
    return dict(zip(ONE_BIT, (signs, scale), strict=True)), restored, "one bit"


def _matrices(folder: Path) -> dict[str, nn.Module]:
    """The linears and embeddings of the checkpoint's model, without their numbers, by the names of their weights."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    kinds = (nn.Linear, nn.Embedding, Conv1D)
    return {f"{path}.weight": module for path, module in model.named_modules() if isinstance(module, kinds)}


def _changed(base: Checkpoint, tuned: Checkpoint) -> Iterator[tuple[str, Tensor, Tensor]]:
    alone = sorted(set(base.names) ^ set(tuned.names))
    if alone:
        where = base.folder if alone[0] in base else tuned.folder
        raise UnsupportedFeature(
            f"tensor {alone[0]} is in {where} alone ({len(alone)} such): the two checkpoints are not of one model.",
            hint="Name the checkpoint that the tuning started from.",
        )
    for name in tqdm(tuned.names, desc="compare", unit="tensor", disable=None):
        own, new = base[name], tuned[name]
        if own.shape != new.shape:
            raise ShapeMismatch(
                f"tensor {name} is {list(new.shape)} in {tuned.folder} and {list(own.shape)} in {base.folder}.",
                hint="Tokens that tuning added are not supported: keep the vocabulary.",
            )
        if not torch.isfinite(new.float()).all():
            raise NotFinite(f"tensor {name} of {tuned.folder} holds NaN or infinity.", hint="The tuning diverged.")
        if not torch.equal(own.float(), new.float()):
            yield name, own, new


@hookimpl
def adapter_hub_importers() -> list[Importer]:
    """Three ways, from no loss to the smallest file."""
    return [
        TunedCheckpoint("exact", "changed parameters as they are; no loss", None, None),
        TunedCheckpoint("low-rank", "the best pair of --rank for each changed matrix", keep_low_rank, keep_low_rank),
        # The rows of an embedding are tokens, most of which tuning hardly moved: signs would say as much of each.
        TunedCheckpoint("one-bit", "a sign for each changed weight and a scale a row", keep_one_bit, keep_low_rank),
    ]
