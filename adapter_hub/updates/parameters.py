"""Whole parameters of a module in place of its own."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .site import SiteShape, TensorMap, hold_shape


@dataclass(frozen=True, eq=False)
class ParameterUpdate:
    """Whole parameters of a module in place of its own: the vector of a norm, say.

    The module's own forward runs on the rows with these parameters, so it must treat each token alone.
    """

    parameters: Mapping[str, Tensor]

    def tensors(self) -> Mapping[str, Tensor]:
        """The parameters by name."""
        return self.parameters

    def map_tensors(self, change: TensorMap) -> ParameterUpdate:
        """The same update over changed tensors."""
        return ParameterUpdate({name: change(tensor) for name, tensor in self.parameters.items()})

    def check(self, site: SiteShape) -> None:
        """Hold each parameter against the module's own."""
        for name, tensor in self.parameters.items():
            hold_shape(site, name, tensor, tuple(site.parameters[name]))

    def changes_nothing(self) -> bool:
        """False: whether the parameters equal the base's is not known here."""
        return False

    def base_input(self, x: Tensor) -> Tensor:
        """``x``: the base's product goes unused here, it is as small as the module."""
        return x

    def output(self, module: nn.Module, x: Tensor, base_output: Tensor) -> Tensor:
        """``module(x)`` under the new parameters."""
        cast = {name: tensor.to(base_output.dtype) for name, tensor in self.parameters.items()}
        return forward_with(module, cast, x)

    def forward(self, module: nn.Module, *inputs: Any) -> Any:
        """The module's forward under the new parameters, in the types of its own."""
        own = dict(module.named_parameters(recurse=False))
        return forward_with(module, {name: t.to(own[name].dtype) for name, t in self.parameters.items()}, *inputs)


def forward_with(module: nn.Module, parameters: Mapping[str, Tensor], *inputs: Any) -> Any:
    """The module class's own forward over other parameters.

    ``torch.func.functional_call`` would swap them in on the shared module, where another thread could see
    them; a shallow twin costs microseconds and touches nothing.
    """
    twin = copy.copy(module)
    twin.__dict__.pop("forward", None)
    twin.__dict__["_parameters"] = {**module._parameters, **parameters}
    return twin.forward(*inputs)
