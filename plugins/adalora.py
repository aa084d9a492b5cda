"""Variant: AdaLoRA (Zhang et al. 2023, arXiv 2303.10512, equation 3).

    y = W x + s P diag(e) Q x,    s = alpha / init_r

Each site keeps the singular values e that its budget left it, so ranks differ from site to site.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from adapter_hub.errors import CorruptFile, ShapeMismatch, UnsupportedFeature
from adapter_hub.hookspecs import Lowered, SiteSummary, Summary, Variant, hookimpl
from adapter_hub.updates import LinearUpdate, SiteUpdate

from .peft_settings import is_number, unknown_settings

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

Q, P, VALUES = ".lora_A", ".lora_B", ".lora_E"
KNOWN = frozenset(
    "alpha_pattern alora_invocation_tokens arrow_config beta1 beta2 corda_config deltaT ensure_weight_tying eva_config "
    "init_lora_weights init_r layer_replication loftq_config lora_alpha lora_bias lora_dropout lora_ga_config "
    "megatron_config megatron_core orth_reg_weight qalora_group_size r rank_pattern target_r tfinal tinit total_step "
    "use_rslora".split()
)


class Adalora:
    """Pruned singular value pairs at linears."""

    name = "adalora"

    def matches(self, config: Mapping[str, Any]) -> bool:
        """PEFT's ADALORA."""
        return config.get("peft_type") == "ADALORA"

    def describe(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Summary:
        """The rank that pruning left each site."""
        refused = _refusals(config)
        scale = None if refused else _scale(config)
        sites = {
            name.removesuffix(Q): SiteSummary(tensor.shape[0] if tensor.dim() else 0, scale)
            for name, tensor in tensors.items()
            if name.endswith(Q)
        }
        return Summary(sites, "alpha / init_r", tuple(refused))

    def lower(self, tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], base: BaseModel) -> Lowered:
        """``A``, ``B`` and ``mid_scale`` = the singular values times the scale."""
        refused = _refusals(config)
        if refused:
            raise UnsupportedFeature(refused[0])
        updates: dict[str, SiteUpdate] = {}
        for name in [name for name in tensors if name.endswith(Q)]:
            path = name.removesuffix(Q)
            update = _triple(path, tensors, _scale(config), base)
            if update is not None:
                updates[path] = update
        return Lowered(updates)


def _triple(path: str, tensors: MutableMapping[str, Tensor], scale: float, base: BaseModel) -> LinearUpdate | None:
    missing = [path + end for end in (Q, P, VALUES) if path + end not in tensors]
    if missing:
        raise CorruptFile(f"tensor {missing[0]} is missing beside {path}{Q}.", hint="The file is incomplete.")
    A, B, values = (tensors.pop(path + end) for end in (Q, P, VALUES))
    if A.dim() != 2 or B.dim() != 2 or A.shape[0] != B.shape[1] or values.numel() != A.shape[0]:
        raise ShapeMismatch(
            f"tensors {path}{Q} {list(A.shape)}, {P} {list(B.shape)}, {VALUES} {list(values.shape)} make no product.",
            hint="The file is damaged.",
        )
    if base.site(path).kind != "linear":
        raise UnsupportedFeature(f"tensor {path}{Q} changes {path}, which is no linear in this base.")
    if not A.shape[0]:
        return None  # pruned away altogether
    return LinearUpdate(A=A, B=B, mid_scale=values.reshape(-1).float() * scale)


def _scale(config: Mapping[str, Any]) -> float:
    # The divisor is the rank at the start, whatever pruning left; PEFT adds 1e-5 to it.
    alpha = config["lora_alpha"]
    return float(alpha if alpha > 0 else config["init_r"]) / (config["init_r"] + 1e-5)


def _refusals(config: Mapping[str, Any]) -> list[str]:
    found = [
        f"the config has no number for {name}, so the scale of the update is not known."
        for name in ("lora_alpha", "init_r")
        if not is_number(config.get(name))
    ]
    if is_number(config.get("init_r")) and config["init_r"] <= 0:
        found.append(f"init_r is {config['init_r']}; it must be above 0.")
    return found + unknown_settings(config, KNOWN)


@hookimpl
def adapter_hub_variants() -> list[Variant]:
    """The one variant here."""
    return [Adalora()]
