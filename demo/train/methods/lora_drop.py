"""LoRA-drop (Zhou et al. 2024, arXiv 2402.07721): layers whose branch puts out little share one pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from adapter_hub_plugins.native_folder import write_folder
from torch import Tensor, nn
from tqdm import tqdm

from ..base_model import BASE_NAME, BaseModel
from ..batches import Batch
from .learner import Learner, OnNf4, adamw, answer_loss
from .pairs import ADAPTER, add_pairs, pair_of

_SCOUT_BATCHES = 8


@dataclass(frozen=True)
class LoraDrop(OnNf4):
    """Train a LoRA for ``scout_steps``; keep, in each group, the layers that carry ``threshold`` of the output.

    The importance of a layer is the mean of ||s B A x||^2 over a sample of the data (section 3.1). The pairs then
    start anew: one for each kept layer, one for all others of the group together.
    """

    targets: tuple[str, ...]
    rank: int = 8
    alpha: float = 16.0
    threshold: float = 0.9
    scout_steps: int = 40
    title = "LoRA-drop"
    how = "by a short trainer of our own on the frozen base in NF4 with double quantisation"

    @property
    def settings(self) -> dict[str, Any]:
        """The fields."""
        return {
            "r": self.rank,
            "lora_alpha": self.alpha,
            "threshold": self.threshold,
            "scout_steps": self.scout_steps,
            "target_modules": list(self.targets),
        }

    def start(self, base: BaseModel, batches: Sequence[Batch], learning_rate: float) -> Learner:
        """Scout, choose, and begin anew with the pairs that were chosen."""
        model, layers = add_pairs(base, self.rank, self.alpha, self.targets)
        causal_lm = model.get_base_model()
        _scout(causal_lm, layers, batches[: self.scout_steps], learning_rate)
        importance = output_norms(causal_lm, layers, batches[:_SCOUT_BATCHES])
        shared = {group: choose(importance, group, self.threshold) for group in self.targets}
        for layer in layers.values():
            layer.reset_lora_parameters(ADAPTER, init_lora_weights=True)
        for paths in shared.values():
            for path in paths[1:]:
                layers[path].lora_A[ADAPTER].weight, layers[path].lora_B[ADAPTER].weight = pair_of(layers[paths[0]])
        return _DropLearner(self, causal_lm, layers, shared, learning_rate)


def choose(importance: dict[str, float], group: str, threshold: float) -> list[str]:
    """The paths of a group that share, that is, all but the fewest that carry ``threshold`` of its importance."""
    paths = [path for path in importance if path.endswith(f".{group}")]
    total, carried, kept = sum(importance[path] for path in paths), 0.0, set()
    for path in sorted(paths, key=lambda path: -importance[path]):
        if carried >= threshold * total:
            break
        kept.add(path)
        carried += importance[path]
    return [path for path in paths if path not in kept]


@torch.no_grad()
def output_norms(causal_lm: Any, layers: dict[str, Any], batches: Sequence[Batch]) -> dict[str, float]:
    """Mean of ||s B A x||^2 over the tokens of a sample, by path."""
    sums = dict.fromkeys(layers, 0.0)

    def watch(path: str) -> Any:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            sums[path] += (layers[path].scaling[ADAPTER] * output.float()).square().sum(-1).mean().item()

        return layers[path].lora_B[ADAPTER].register_forward_hook(hook)

    handles = [watch(path) for path in layers]
    for batch in batches:
        answer_loss(causal_lm, batch)
    for handle in handles:
        handle.remove()
    return {path: total / len(batches) for path, total in sums.items()}


def _scout(causal_lm: Any, layers: dict[str, Any], batches: Sequence[Batch], learning_rate: float) -> None:
    parameters = [factor for layer in layers.values() for factor in pair_of(layer)]
    optimizer = adamw(parameters, learning_rate)
    for batch in tqdm(batches, desc="scout", unit="step"):
        answer_loss(causal_lm, batch).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()


class _DropLearner(Learner):
    def __init__(
        self,
        method: LoraDrop,
        causal_lm: Any,
        layers: dict[str, Any],
        shared: dict[str, list[str]],
        learning_rate: float,
    ) -> None:
        factors = {id(factor): factor for layer in layers.values() for factor in pair_of(layer)}
        super().__init__(causal_lm, list(factors.values()), adamw(list(factors.values()), learning_rate))
        self.method, self.layers, self.shared = method, layers, shared

    def save(self, out: Path) -> None:
        """In this project's own format, bfloat16."""
        dropped = {path for paths in self.shared.values() for path in paths}
        named = {path: layer for path, layer in self.layers.items() if path not in dropped}
        named |= {f"shared.{group}": self.layers[paths[0]] for group, paths in self.shared.items() if paths}
        tensors = {}
        for name, layer in named.items():
            for factor, end in zip(pair_of(layer), ("lora_A.weight", "lora_B.weight"), strict=True):
                tensors[f"{name}.{end}"] = factor.detach().bfloat16().cpu()
        config = {
            "base_model_name_or_path": BASE_NAME,
            "r": self.method.rank,
            "lora_alpha": self.method.alpha,
            "shared": {group: paths for group, paths in self.shared.items() if paths},
        }
        write_folder(out, "lora_drop", tensors, config)
