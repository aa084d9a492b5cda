"""Which modules of a model see tokens before rows."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

ROWS, TOKENS = 2, 3
OWN_CLASSES = "transformers.models."


def sequence_first(model: Any) -> frozenset[str]:
    """Paths of the modules whose input is [tokens, rows, n] where that of nearly all is [rows, tokens, n].

    transformers' own causal models have rows first throughout. Code that a model brings along may not (ChatGLM 2
    has tokens first in all of its layers), and for a batch of as many rows as tokens a shape does not tell. So
    such a model runs once on two rows of three tokens, and each module's input is looked at.
    """
    if type(model).__module__.startswith(OWN_CLASSES):
        return frozenset()
    found: set[str] = set()
    hooks = [
        module.register_forward_pre_hook(partial(_look, path, found))
        for path, module in model.named_modules()
        if next(module.parameters(recurse=False), None) is not None
    ]
    try:
        with torch.inference_mode():
            model(torch.zeros(ROWS, TOKENS, dtype=torch.long, device=model.device))
    finally:
        for hook in hooks:
            hook.remove()
    return frozenset(found)


def _look(path: str, found: set[str], _module: nn.Module, inputs: tuple[Any, ...]) -> None:
    if inputs and isinstance(inputs[0], Tensor) and inputs[0].shape[:2] == (TOKENS, ROWS):
        found.add(path)
