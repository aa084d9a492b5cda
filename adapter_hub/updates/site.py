"""What the runtime asks of an update, and what its implementations share.

An update takes part in a site's forward at two places, so that rows of different adapters can share the one
product of the frozen base:

    h = base(update.base_input(x))
    y = update.output(x, h)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self, TypeGuard, runtime_checkable

import torch
from torch import Tensor, nn

from ..errors import ShapeMismatch, UnsupportedFeature

TensorMap = Callable[[Tensor], Tensor]


class SiteShape(Protocol):
    """What a check needs to know of a site."""

    @property
    def path(self) -> str:
        """Name of the module in the base."""
        ...

    @property
    def in_features(self) -> int:
        """Inputs of a linear, or rows of an embedding's table."""
        ...

    @property
    def out_features(self) -> int:
        """Outputs of a linear, or width of an embedding's table."""
        ...

    @property
    def parameters(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of the module's own parameters."""
        ...


@runtime_checkable
class SiteUpdate(Protocol):
    """What the runtime asks of an update; a plugin may bring a class of its own.

    Tensors are never written after load: several adapters and several batches may share them.
    """

    def tensors(self) -> Mapping[str, Tensor]:
        """All tensors that the update keeps, by name."""
        ...

    def map_tensors(self, change: TensorMap) -> Self:
        """The same update with each tensor replaced by ``change(tensor)`` (a cast, a move)."""
        ...

    def check(self, site: SiteShape) -> None:
        """Raise ``ShapeMismatch`` unless every tensor fits ``site``."""
        ...

    def changes_nothing(self) -> bool:
        """Whether the output is the base's for every input: a sign of a file saved before training."""
        ...

    def base_input(self, x: Tensor) -> Tensor:
        """What the base gets to see instead of ``x``; the same shape."""
        ...

    def output(self, module: nn.Module, x: Tensor, base_output: Tensor) -> Tensor:
        """The site's output, from its input ``x`` and the base's output for ``base_input(x)``."""
        ...


@runtime_checkable
class Mergeable(Protocol):
    """What an update offers besides if one dense linear can compute it too. Classes of plugins need not."""

    def merged(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """W' [out', in] and b' [out'] of that linear, from W [out, in] and b0 [out] of the base. Neither is written."""
        ...


@runtime_checkable
class Factored(Protocol):
    """What an update of a class of its own offers besides if its change of the weight may be a product of low rank."""

    def pair(self, weight: Tensor) -> tuple[Tensor, Tensor] | None:
        """A [r, in] and B [out, r] in float32 with ``W' = W + B A``; None where r would be no less than the rank of W.

        W [out, in] is the base's in float32. A ``bias`` of the update, if there is one, is added to the base's own.
        """
        ...


class ModuleUpdate(SiteUpdate, Protocol):
    """An update that takes the module's place on its own rows.

    For modules that have several inputs or outputs, or no product to share among rows of different adapters. Where a
    site has such an update, the base runs on the other rows alone.
    """

    def forward(self, module: nn.Module, *inputs: Any) -> Any:
        """The module's output for these rows: tensors [rows, ...] of what it takes, and of what it gives."""
        ...


def takes_place(update: SiteUpdate) -> TypeGuard[ModuleUpdate]:
    """Whether an update is a ``ModuleUpdate``; isinstance would ask for every method, which takes far longer."""
    return hasattr(update, "forward")


class TensorFields:
    """Field-wise ``tensors`` and ``map_tensors`` for frozen dataclasses whose tensors are optional."""

    __slots__ = ("_tensors",)  # beside the fields: what goes by ``vars`` does not see it
    _tensors: dict[str, Tensor]

    def tensors(self) -> Mapping[str, Tensor]:
        """All tensors of the update by field name."""
        try:
            return self._tensors
        except AttributeError:
            # A load makes hundreds of updates, and asking isinstance of each field would cost as much as reading them.
            found = {name: it for name, it in vars(self).items() if it is not None and type(it) is not int}
            object.__setattr__(self, "_tensors", found)
            return found

    def map_tensors(self, change: TensorMap) -> Self:
        """The same update over changed tensors."""
        changed = {name: change(tensor) for name, tensor in self.tensors().items()}
        return type(self)(**{**vars(self), **changed})


def is_zero(tensor: Tensor) -> bool:
    """Whether all values are zero."""
    # The first value answers for nearly every trained tensor, without reading the rest.
    return not tensor.numel() or (tensor.reshape(-1)[0].item() == 0 and not bool(tensor.any()))


def hold_shape(
    site: SiteShape, field: str, tensor: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype | None = None
) -> None:
    """Raise ``ShapeMismatch`` if a given tensor has another shape.

    And ``UnsupportedFeature`` if it is not of ``dtype`` or, without one, holds no floats.
    """
    if tensor is None:
        return
    if tensor.shape != shape:
        raise ShapeMismatch(
            f"site {site.path}: {field} is {list(tensor.shape)}, the base asks for {list(shape)}.",
            hint="The adapter was trained on a model of another shape.",
        )
    if dtype is not None and tensor.dtype != dtype:
        raise UnsupportedFeature(
            f"site {site.path}: {field} is stored as {_name(tensor.dtype)}, not as {_name(dtype)}."
        )
    if dtype is None and not tensor.is_floating_point():
        raise UnsupportedFeature(
            f"site {site.path}: {field} is stored as {_name(tensor.dtype)}, not as floats.",
            hint="Quantised adapters are not served: save it in 16 or 32 bit.",
        )


def num_rows(tensor: Tensor | None) -> int:
    """Rows of a tensor that may be missing or, in a damaged file, have no dimension."""
    return tensor.shape[0] if tensor is not None and tensor.dim() else 0


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
