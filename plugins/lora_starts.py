"""Starts of LoRA's pair that change the base: what the stored pair is to be taken with.

PiSSA (Meng et al. 2024, arXiv 2404.02948, equation 2) and OLoRA (Büyükakyüz 2024, arXiv 2406.01775, section 3) begin
with a part of the weight itself, and train on the rest:

    y = (W - s B_0 A_0) x + s B A x

The file has B and A; B_0 and A_0 follow from W, and are taken again. Other starts of this kind need data or chance.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from huggingface_hub import snapshot_download
from torch import Tensor

from adapter_hub.errors import AdapterError, ShapeMismatch, UnsupportedFeature
from adapter_hub.loading.checkpoint import Checkpoint

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

# Starts that leave the base as it is.
PLAIN = (True, False, None, "gaussian", "orthogonal", "eva", "mica")
REBUILT = ("pissa", "olora")
CONVERT = "Save it from PEFT with path_initial_model_for_weight_conversion and register that."


def start_refusal(start: object) -> str | None:
    """Why an adapter that began so cannot be served from its pair; None where it can."""
    if start in PLAIN or start in REBUILT:
        return None
    said = f"init_lora_weights={start!r} trains against a changed base, and the stored pair alone is not the adapter: "
    if start == "loftq":
        return f"{said}it belongs to the quantised base that LoftQ made with it. Load that base, and say true here."
    if isinstance(start, str) and start.startswith("pissa_niter"):
        return f"{said}what was taken out of the base was found by chance, and cannot be found again. {CONVERT}"
    if start in ("corda", "lora_ga"):
        return f"{said}what was taken out of the base depends on data that is not in the file. {CONVERT}"
    return f"{said}{CONVERT}"


class InitialPairs:
    """What was taken out of the weights of a base before training.

    Args:
        start: one of ``REBUILT``.
        base: the base that is to serve the adapter.
    """

    def __init__(self, start: str, base: BaseModel) -> None:
        self._start = start
        self._base = base

    def at(self, path: str, rank: int, scale: float) -> tuple[Tensor, Tensor]:
        """A_0 [r, in] and s B_0 [out, r] at a linear site.

        Raises:
            UnsupportedFeature: the weight is there in 4 bit alone, and that is not what it was taken out of.
            ShapeMismatch: the weight has no part of this rank.
        """
        weight = self._full_weight(path)
        if rank > min(weight.shape):
            raise ShapeMismatch(f"site {path}: a weight of {list(weight.shape)} has no part of rank {rank}.")
        if self._start == "olora":
            Q, R = torch.linalg.qr(weight)
            return R[:rank].cpu().contiguous(), (scale * Q[:, :rank]).cpu().contiguous()
        # The largest singular values; how they are shared out between the two factors makes no difference.
        U, S, Vh = torch.linalg.svd(weight, full_matrices=False)
        return Vh[:rank].cpu().contiguous(), (U[:, :rank] * S[:rank]).cpu()

    def _full_weight(self, path: str) -> Tensor:
        """W [out, in] in float32 on the base's device, as it was before any quantisation."""
        if self._base.parameter(path, "weight").is_floating_point():
            return self._base.dense_weight(path)
        stored, name = self._checkpoint, f"{path}.weight"
        weight = stored[name] if stored is not None and name in stored else None
        if weight is None or not weight.is_floating_point():
            raise UnsupportedFeature(
                f"the weight of {path} is stored in 4 bit, and the one that training began with cannot be found.",
                hint=f"Load the base in 16 bit for this adapter. Or: {CONVERT}",
            )
        weight = weight.to(self._base.device, torch.float32)
        made_from = getattr(self._base.module(path), "source_cls", None)
        return weight.T if made_from is not None and made_from.__name__ == "Conv1D" else weight

    @cached_property
    def _checkpoint(self) -> Checkpoint | None:
        """The files that the base was loaded from, if they are on this machine."""
        source = self._base.model.config.name_or_path
        try:
            if Path(source).is_dir():
                return Checkpoint(Path(source))
            return Checkpoint(Path(snapshot_download(source, revision=self._base.revision, local_files_only=True)))
        except (AdapterError, OSError, ValueError):
            return None
