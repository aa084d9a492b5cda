"""Low-rank changes of a mixture's experts, whose weights lie stacked in one module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ShapeMismatch, UnsupportedFeature
from .site import SiteShape, TensorFields, is_zero

DOWN = "down_proj"
UPS = ("gate_up_proj", "up_proj")


@dataclass(frozen=True, eq=False)
class ExpertsUpdate(TensorFields):
    """Low-rank changes of the two products of every expert, for modules as transformers builds them.

        h_e = up_e(x) + B_up[e] A_up[e] x
        y = sum over the token's experts e of weight_e (down_e(act(h_e)) + B_down[e] A_down[e] act(h_e))

    ``up`` stands for the stack ``gate_up_proj``, or ``up_proj`` where an expert has no gate. As in the form for
    linears, branches are computed in float32 and rounded before they are added.

    Args:
        A_up: [experts, r, in]. Needs ``B_up``.
        B_up: [experts, h, r], any constant scale folded in.
        A_down: [experts, r, inner]. Needs ``B_down``.
        B_down: [experts, out, r]
    """

    A_up: Tensor | None = None
    B_up: Tensor | None = None
    A_down: Tensor | None = None
    B_down: Tensor | None = None

    def check(self, site: SiteShape) -> None:
        """Hold every pair against its stack, whichever way round that lies."""
        up = next((name for name in UPS if name in site.parameters), None)
        if up is None or DOWN not in site.parameters:
            raise UnsupportedFeature(f"site {site.path}: it holds no experts that are served.")
        for name, A, B in ((up, self.A_up, self.B_up), (DOWN, self.A_down, self.B_down)):
            if A is None or B is None:
                if A is not B:
                    raise ShapeMismatch(f"site {site.path}: A and B of {name} must come together.")
                continue
            experts, *sizes = site.parameters[name]
            fits = A.dim() == B.dim() == 3 and len(A) == len(B) == experts and A.shape[1] == B.shape[2]
            if not fits or sorted(sizes) != sorted((A.shape[2], B.shape[1])):
                raise ShapeMismatch(
                    f"site {site.path}: the pair {list(A.shape)}, {list(B.shape)} does not fit {name}, which is "
                    f"{list(site.parameters[name])}.",
                    hint="The adapter was trained on a model of another shape.",
                )

    def changes_nothing(self) -> bool:
        """Whether each pair has a factor that is zero."""
        pairs = ((self.A_up, self.B_up), (self.A_down, self.B_down))
        return all(A is None or B is None or is_zero(A) or is_zero(B) for A, B in pairs)

    def forward(self, module: Any, x: Tensor, experts_of: Tensor, weights: Tensor) -> Tensor:
        """The equation of the class.

        Args:
            module: the experts.
            x: [tokens, in]
            experts_of: [tokens, k], the experts of each token; numbers beyond the last are none.
            weights: [tokens, k], theirs in the sum.

        Returns:
            [tokens, out]
        """
        y = torch.zeros_like(x)
        up = UPS[0] if module.has_gate else UPS[1]
        for expert in experts_of.unique().tolist():
            if expert >= module.num_experts:
                continue
            tokens, place = torch.where(experts_of == expert)
            h = _changed(module, up, expert, x[tokens], self.A_up, self.B_up)
            h = module._apply_gate(h) if module.has_gate else module.act_fn(h)
            h = _changed(module, DOWN, expert, h, self.A_down, self.B_down)
            if module.has_post_expert_norm:
                h = module.post_expert_norm(h)
            y.index_add_(0, tokens, (h * weights[tokens, place, None]).to(y.dtype))
        return y

    def base_input(self, x: Tensor) -> Tensor:
        """See ``output``."""
        return x

    def output(self, module: nn.Module, x: Tensor, base_output: Tensor) -> Tensor:
        """Raise ``UnsupportedFeature``: between the two products lies no linear map, so there is none to add to."""
        raise UnsupportedFeature("experts are changed within their forward, not after it.")


def _changed(module: Any, name: str, expert: int, x: Tensor, A: Tensor | None, B: Tensor | None) -> Tensor:
    """One product of one expert with its branch: [n, in] -> [n, out]."""
    weight = getattr(module, name)[expert]
    y = F.linear(x, weight.T if module.is_transposed else weight)
    if module.has_bias:
        y = y + getattr(module, f"{name}_bias")[expert]
    if A is None or B is None:
        return y
    exact = torch.promote_types(x.dtype, torch.float32)
    return y + F.linear(F.linear(x.to(exact), A[expert].to(exact)), B[expert].to(exact)).to(y.dtype)
