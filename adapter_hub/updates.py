"""The canonical form: what an adapter does at one site, in plain torch.

Every adapter type is lowered to these at load, and nothing after that knows the types. The methods here are
the meaning of the form; every fast path is held against them.

An update takes part in a site's forward at two places, so that rows of different adapters can share the one
product of the frozen base:

    h = base(update.base_input(x))
    y = update.output(x, h)
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .errors import ShapeMismatch

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


class _Fields:
    """Field-wise ``tensors`` and ``map_tensors`` for frozen dataclasses of optional tensors."""

    def tensors(self) -> dict[str, Tensor]:
        """All tensors of the update by field name."""
        named = ((entry.name, getattr(self, entry.name)) for entry in dataclasses.fields(self))  # type: ignore[arg-type]
        return {name: value for name, value in named if isinstance(value, Tensor)}

    def map_tensors(self, change: TensorMap) -> Self:
        """The same update over changed tensors."""
        changed = {name: change(tensor) for name, tensor in self.tensors().items()}
        return dataclasses.replace(self, **changed)  # type: ignore[type-var]


@dataclass(frozen=True, eq=False)
class LinearUpdate(_Fields):
    """The canonical form at a linear site with base output ``base(x) = W x + b0``.

        y = out_scale * base(in_scale * x) + branch_scale * (B (mid_scale * (A x))) + D x + bias

    after which, where ``rows`` is given, ``y[row_ids] = rows x``: rows of W that are replaced rather than
    shifted, kept as rows because a dense D of an output head would be nearly all zeros.

    Args:
        A: [r, in]. Needs ``B``.
        B: [out, r]; any constant scale (alpha / r and the like) is folded in.
        mid_scale: [r]
        branch_scale: [out]
        out_scale: [out]
        in_scale: [in]
        bias: [out]; added to the base's own bias.
        D: [out', in]. ``out' > out`` extends the output; the base adds nothing to the rows beyond ``out``.
        row_ids: [n] int64, increasing. A row beyond ``out`` extends the output; extended rows that are not
            listed are minus infinity, so that no sampler picks them.
        rows: [n, in]
    """

    A: Tensor | None = None
    B: Tensor | None = None
    mid_scale: Tensor | None = None
    branch_scale: Tensor | None = None
    out_scale: Tensor | None = None
    in_scale: Tensor | None = None
    bias: Tensor | None = None
    D: Tensor | None = None
    row_ids: Tensor | None = None
    rows: Tensor | None = None

    def check(self, site: SiteShape) -> None:
        """Hold every shape against the site's ``in_features`` and ``out_features``."""
        rank = self.A.shape[0] if self.A is not None else 0
        out = max(site.out_features, self.D.shape[0] if self.D is not None else 0)
        listed = self.row_ids.shape[0] if self.row_ids is not None else 0
        _hold(site, "A", self.A, (rank, site.in_features))
        _hold(site, "B", self.B, (out, rank))
        _hold(site, "mid_scale", self.mid_scale, (rank,))
        _hold(site, "branch_scale", self.branch_scale, (out,))
        _hold(site, "out_scale", self.out_scale, (out,))
        _hold(site, "in_scale", self.in_scale, (site.in_features,))
        _hold(site, "bias", self.bias, (out,))
        _hold(site, "D", self.D, (out, site.in_features))
        _hold(site, "rows", self.rows, (listed, site.in_features))
        if (self.A is None) != (self.B is None):
            raise ShapeMismatch(f"site {site.path}: A and B must come together.")

    def changes_nothing(self) -> bool:
        """True where only a low-rank branch is given and one of its factors is zero, or nothing at all."""
        given = self.tensors().keys() - {"A", "B", "mid_scale", "branch_scale"}
        if given - {"bias"} or (self.bias is not None and not _is_zero(self.bias)):
            return False
        branch = (self.A, self.B, self.mid_scale, self.branch_scale)
        return self.A is None or any(factor is not None and _is_zero(factor) for factor in branch)

    def base_input(self, x: Tensor) -> Tensor:
        """``in_scale * x``."""
        return x if self.in_scale is None else x * self.in_scale.to(x.dtype)

    def output(self, module: nn.Module, x: Tensor, base_output: Tensor) -> Tensor:
        """The equation of the class. Shapes: ``x [..., in]``, ``base_output [..., out]``, result [..., out'].

        Products run in the update's own dtype and the sum in the wider of that and the base's; one cast at
        the end gives the base's dtype back.
        """
        y = base_output
        if self.D is not None and self.D.shape[0] > y.shape[-1]:
            y = F.pad(y, (0, self.D.shape[0] - y.shape[-1]))
        if self.out_scale is not None:
            y = y * self.out_scale
        if self.A is not None and self.B is not None:
            branch = F.linear(x.to(self.A.dtype), self.A)
            if self.mid_scale is not None:
                branch = branch * self.mid_scale
            branch = F.linear(branch, self.B)
            y = y + (branch if self.branch_scale is None else branch * self.branch_scale)
        if self.D is not None:
            y = y + F.linear(x.to(self.D.dtype), self.D)
        if self.bias is not None:
            y = y + self.bias
        if self.rows is not None and self.row_ids is not None:
            y = self._replace_rows(x, y, self.row_ids, self.rows)
        return y.to(base_output.dtype)

    def _replace_rows(self, x: Tensor, y: Tensor, row_ids: Tensor, rows: Tensor) -> Tensor:
        # Extended once at load would be simpler, but only here is it known how wide y is.
        width = max(y.shape[-1], int(row_ids[-1]) + 1) if len(row_ids) else y.shape[-1]
        y = F.pad(y, (0, width - y.shape[-1]), value=float("-inf"))
        return y.index_copy(-1, row_ids, F.linear(x.to(rows.dtype), rows).to(y.dtype))


@dataclass(frozen=True, eq=False)
class EmbeddingUpdate(_Fields):
    """What an adapter does to an embedding table E [vocab, dim]: a new table, a low-rank change, or new rows.

        y = module(ids; table or E) + scale * (A[:, ids]^T B^T)

    and then ``y = scale * rows[k]`` where ``ids = row_ids[k]``,
    with ``scale`` the module's own ``embed_scale`` where it has one (Gemma), else 1.

    Args:
        A: [r, vocab]
        B: [dim, r], any constant scale folded in.
        table: [vocab', dim], in place of E. ``vocab' > vocab`` adds tokens.
        row_ids: [n] int64, increasing; ids beyond the table add tokens.
        rows: [n, dim], in place of those rows, not added to them.
    """

    A: Tensor | None = None
    B: Tensor | None = None
    table: Tensor | None = None
    row_ids: Tensor | None = None
    rows: Tensor | None = None
    base_vocabulary: int = 0

    def check(self, site: SiteShape) -> None:
        """Hold every shape against the table's rows (``in_features``) and width (``out_features``)."""
        rank = self.A.shape[0] if self.A is not None else 0
        vocabulary = self.table.shape[0] if self.table is not None else site.in_features
        listed = self.row_ids.shape[0] if self.row_ids is not None else 0
        _hold(site, "A", self.A, (rank, vocabulary))
        _hold(site, "B", self.B, (site.out_features, rank))
        _hold(site, "rows", self.rows, (listed, site.out_features))
        _hold(site, "table", self.table, (vocabulary, site.out_features))
        if vocabulary < site.in_features:
            raise ShapeMismatch(
                f"site {site.path}: the new table has {vocabulary} rows, the base's has {site.in_features}.",
                hint="A table may add tokens, not take them away.",
            )

    def changes_nothing(self) -> bool:
        """True where only a low-rank branch is given and one of its factors is zero, or nothing at all."""
        if self.table is not None or self.rows is not None:
            return False
        return self.A is None or self.B is None or _is_zero(self.A) or _is_zero(self.B)

    def base_input(self, x: Tensor) -> Tensor:
        """Token ids with those that the base does not know set to 0; their rows are replaced afterwards."""
        if not self.base_vocabulary:
            return x
        return x.masked_fill(x >= self.base_vocabulary, 0)

    def output(self, module: nn.Module, x: Tensor, base_output: Tensor) -> Tensor:
        """The equation of the class. Shapes: ids ``x [...]``, ``base_output [..., dim]``."""
        y = base_output
        if self.table is not None:
            y = _forward_with(module, {"weight": self.table.to(base_output.dtype)}, x)
        scale = getattr(module, "embed_scale", None)
        if self.A is not None and self.B is not None:
            branch = F.linear(F.embedding(x, self.A.T), self.B)
            y = y + (branch if scale is None else branch * scale)
        if self.rows is not None and self.row_ids is not None:
            where = torch.searchsorted(self.row_ids, x).clamp(max=len(self.row_ids) - 1)
            new = F.embedding(where, self.rows)
            new = new if scale is None else new * scale
            y = torch.where((self.row_ids[where] == x).unsqueeze(-1), new.to(y.dtype), y)
        return y.to(base_output.dtype)


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
            _hold(site, name, tensor, tuple(site.parameters[name]))

    def changes_nothing(self) -> bool:
        """False: whether the parameters equal the base's is not known here."""
        return False

    def base_input(self, x: Tensor) -> Tensor:
        """``x``: the base's product goes unused here, it is as small as the module."""
        return x

    def output(self, module: nn.Module, x: Tensor, base_output: Tensor) -> Tensor:
        """``module(x)`` under the new parameters."""
        cast = {name: tensor.to(base_output.dtype) for name, tensor in self.parameters.items()}
        return _forward_with(module, cast, x)


def _forward_with(module: nn.Module, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """The module class's own forward over other parameters.

    ``torch.func.functional_call`` would swap them in on the shared module, where another thread could see
    them; a shallow twin costs microseconds and touches nothing.
    """
    twin = copy.copy(module)
    twin.__dict__.pop("forward", None)
    twin.__dict__["_parameters"] = {**module._parameters, **parameters}
    result: Tensor = twin.forward(x)
    return result


def _is_zero(tensor: Tensor) -> bool:
    # The first value answers for nearly every trained tensor, without reading the rest.
    return not tensor.numel() or (not bool(tensor.flatten()[0]) and not bool(tensor.any()))


def _hold(site: SiteShape, field: str, tensor: Tensor | None, shape: tuple[int, ...]) -> None:
    if tensor is not None and tuple(tensor.shape) != shape:
        raise ShapeMismatch(
            f"site {site.path}: {field} is {list(tensor.shape)}, the base asks for {list(shape)}.",
            hint="The adapter was trained on a model of another shape.",
        )
