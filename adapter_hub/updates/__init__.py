"""The canonical form: what an adapter does at one site, in plain torch.

Every adapter type is lowered to these at load, and nothing after that knows the types. Their methods are the
meaning of the form; every fast path is held against them.
"""

from .dense import merged_table, merged_weight, weight_change
from .embedding import EmbeddingUpdate
from .experts import ExpertsUpdate
from .linear import LinearUpdate
from .norms import base_norm, change_norm
from .parameters import ParameterUpdate
from .site import Factored, Mergeable, ModuleUpdate, SiteShape, SiteUpdate, TensorMap, takes_place
from .summing import weighted_sum

__all__ = [
    "EmbeddingUpdate",
    "ExpertsUpdate",
    "Factored",
    "LinearUpdate",
    "Mergeable",
    "ModuleUpdate",
    "ParameterUpdate",
    "SiteShape",
    "SiteUpdate",
    "TensorMap",
    "base_norm",
    "change_norm",
    "merged_table",
    "merged_weight",
    "takes_place",
    "weight_change",
    "weighted_sum",
]
