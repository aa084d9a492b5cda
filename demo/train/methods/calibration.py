"""What compression took from a tuned checkpoint, won back by its scales (after BitDelta, arXiv 2402.10193).

BitDelta trains the scales of its signs so that the model says again what the tuned one said. Here the scales, the
low-rank pairs and the vectors learn from the answers themselves, on the base in 4 bit, so that they make up for its
rounding too. Each value learns a factor for itself, for scales are a thousand times smaller than norms. Signs stay.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from adapter_hub_plugins.native_folder import CONFIG, WEIGHTS, write_folder
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from adapter_hub.updates.linear import unpack_signs

from ..base_model import BaseModel
from ..batches import Batch
from .learner import adamw, answer_loss

_SIGNS, _SCALE, _A, _B = ".delta_signs", ".delta_scale", ".delta_A", ".delta_B"


def calibrate(folder: Path, base: BaseModel, batches: Sequence[Batch], learning_rate: float) -> list[float]:
    """Train everything in an adapter of ``tuned_weights`` but its signs, and write it again; gives the losses."""
    tensors = load_file(folder / WEIGHTS)
    device = base.model.device
    learning = {name: _Factors(tensor.to(device)) for name, tensor in tensors.items() if not name.endswith(_SIGNS)}
    base.model.requires_grad_(False)
    for path, module in base.model.named_modules():
        if path + _SIGNS in tensors:
            signs = unpack_signs(tensors[path + _SIGNS], module.in_features).to(device, base.model.dtype)
            module.register_forward_hook(_add_signs(signs, learning[path + _SCALE]))
        elif path + _A in learning:
            module.register_forward_hook(_add_pair(learning[path + _A], learning[path + _B]))
            if isinstance(module, nn.Embedding) and base.model.lm_head.weight is module.weight:
                base.model.lm_head.register_forward_hook(_add_pair(learning[path + _A], learning[path + _B]))
        elif f"{path}.weight" in learning:
            # The parameter itself cannot be swapped for one of another type under way, so its output is made anew.
            module.register_forward_hook(_replace_norm(learning[f"{path}.weight"]))
    losses = _fit(base.model, [values.factor for values in learning.values()], batches, learning_rate)
    for name, values in learning.items():
        tensors[name] = values().detach().to("cpu", tensors[name].dtype)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    # After this the pieces stand for what the model says, no longer for the tuned weights: the error is that of before.
    config["facts"] = {"calibration_steps": len(batches)}
    write_folder(folder, config.pop("variant"), tensors, config)
    return losses


class _Factors:
    """Values that learn a factor each."""

    def __init__(self, start: Tensor) -> None:
        self.start = start.float()
        self.factor = nn.Parameter(torch.ones_like(self.start))

    def __call__(self) -> Tensor:
        return self.start * self.factor


def _fit(model: Any, parameters: list[nn.Parameter], batches: Sequence[Batch], learning_rate: float) -> list[float]:
    optimizer = adamw(parameters, learning_rate)
    losses = []
    for batch in tqdm(batches, desc="calibrate", unit="step"):
        loss = answer_loss(model, batch)
        loss.backward()
        losses.append(loss.item())
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return losses


def _add_signs(signs: Tensor, scale: _Factors) -> Any:
    def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output + (F.linear(inputs[0], signs) * scale()).to(output.dtype)

    return hook


def _add_pair(A: _Factors, B: _Factors) -> Any:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = inputs[0]
        if isinstance(module, nn.Embedding):
            return output + (F.embedding(x, B()) @ A()).to(output.dtype)
        return output + F.linear(F.linear(x.float(), A()), B()).to(output.dtype)

    return hook


def _replace_norm(weight: _Factors) -> Any:
    def hook(module: Any, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
        x = inputs[0].float()
        normed = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + module.variance_epsilon)
        return (weight() * normed).to(inputs[0].dtype)

    return hook
