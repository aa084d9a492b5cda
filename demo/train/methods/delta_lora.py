"""Delta-LoRA (Zi et al. 2023, arXiv 2309.02411): W moves with the low-rank product, though it gets no gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from adapter_hub_plugins.native_folder import write_folder
from torch import Tensor, nn
from torch.nn import functional as F

from ..base_model import BASE_NAME, BaseModel
from ..batches import Batch
from .learner import Learner, OnNf4, adamw
from .pairs import add_pairs, pair_of, product


@dataclass(frozen=True)
class DeltaLora(OnNf4):
    """From step ``start_step`` on, each step adds ``ratio`` times the change of s B A to W (algorithm 1).

    The base stays in NF4, so what W moves by is kept beside it, dense and in float32, while training.
    """

    targets: tuple[str, ...]
    rank: int = 8
    alpha: float = 16.0
    ratio: float = 0.5
    start_step: int = 100
    title = "Delta-LoRA"
    how = "by a short trainer of our own on the base in NF4 with double quantisation, the moves of W beside it"

    @property
    def settings(self) -> dict[str, Any]:
        """The fields."""
        return {
            "r": self.rank,
            "lora_alpha": self.alpha,
            "ratio": self.ratio,
            "start_step": self.start_step,
            "target_modules": list(self.targets),
        }

    def start(self, base: BaseModel, batches: Sequence[Batch], learning_rate: float) -> Learner:
        """Pairs at every target, and room for what its weight will move by."""
        model, layers = add_pairs(base, self.rank, self.alpha, self.targets)
        return _DeltaLearner(self, model.get_base_model(), layers, learning_rate)


class _DeltaLearner(Learner):
    def __init__(self, method: DeltaLora, causal_lm: Any, layers: dict[str, Any], learning_rate: float) -> None:
        factors = [factor for layer in layers.values() for factor in pair_of(layer)]
        super().__init__(causal_lm, factors, adamw(factors, learning_rate))
        self.method, self.layers = method, layers
        self.moved = {path: torch.zeros_like(product(layer)) for path, layer in layers.items()}
        self.before: dict[str, Tensor] = {}
        self.first: dict[str, tuple[Tensor, Tensor]] = {}
        for path, layer in layers.items():
            layer.base_layer.register_forward_hook(self._add_move(path))

    def _add_move(self, path: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            x = inputs[0]
            return output + F.linear(x, self.moved[path].to(x.dtype))

        return hook

    def before_step(self, step: int) -> None:
        """Take down the products that the step will change."""
        if step == self.method.start_step:
            self.first = {path: _copies(layer) for path, layer in self.layers.items()}
        if step >= self.method.start_step:
            self.before = {path: product(layer) for path, layer in self.layers.items()}

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Move each W by ``ratio`` times the change of its product."""
        for path, before in self.before.items():
            self.moved[path] += self.method.ratio * (product(self.layers[path]) - before)

    def save(self, out: Path) -> None:
        """In this project's own format, bfloat16: the pair, and the moves, which telescope into one of rank 2 r."""
        tensors: dict[str, Tensor] = {}
        for path, layer in self.layers.items():
            A, B = (factor.detach() for factor in pair_of(layer))
            tensors |= {f"{path}.lora_A.weight": A, f"{path}.lora_B.weight": B}
            if path in self.first:
                (first_A, first_B), size = self.first[path], self.method.ratio * self.method.alpha / self.method.rank
                delta_A, delta_B = torch.cat([A, first_A]), torch.cat([size * B, -size * first_B], dim=1)
                torch.testing.assert_close(delta_B @ delta_A, self.moved[path], atol=1e-3, rtol=1e-3)
                tensors |= {f"{path}.delta_A": delta_A, f"{path}.delta_B": delta_B}
        config = {"base_model_name_or_path": BASE_NAME, "r": self.method.rank, "lora_alpha": self.method.alpha}
        write_folder(out, "delta_lora", {name: tensor.bfloat16().cpu() for name, tensor in tensors.items()}, config)


def _copies(layer: Any) -> tuple[Tensor, Tensor]:
    A, B = pair_of(layer)
    return A.detach().clone(), B.detach().clone()
