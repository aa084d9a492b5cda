"""A base of one module, as much of it as folding and summing ask for."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn

PATH = "site"


class OneModule:
    """A frozen module at ``PATH`` with weights in float32."""

    def __init__(self, module: nn.Module):
        self._module = module.requires_grad_(False)
        table = isinstance(module, nn.Embedding)
        out, inside = (module.embedding_dim, module.num_embeddings) if table else (0, 0)
        if isinstance(module, nn.Linear):
            out, inside = module.out_features, module.in_features
        shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
        self._site = SimpleNamespace(path=PATH, in_features=inside, out_features=out, parameters=shapes)

    def site(self, path):
        return self._site

    def module(self, path):
        return self._module

    def dense_weight(self, path):
        return self._module.weight.float()

    def parameter(self, path, name):
        return getattr(self._module, name)

    def effect(self, update, x):
        """What the update adds to the module's output."""
        module = self._module
        return update.output(module, x, module(update.base_input(x))) - module(x)


def drawer(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=generator)
