"""The canonical form: what an adapter does at one site, in plain torch.

Every adapter type is lowered to these at load, and nothing after that knows the types. Their methods are the
meaning of the form; every fast path is held against them.
"""

from .embedding import EmbeddingUpdate
from .experts import ExpertsUpdate
from .linear import LinearUpdate
from .parameters import ParameterUpdate
from .site import ModuleUpdate, SiteShape, SiteUpdate, TensorMap, takes_place

__all__ = [
    "EmbeddingUpdate",
    "ExpertsUpdate",
    "LinearUpdate",
    "ModuleUpdate",
    "ParameterUpdate",
    "SiteShape",
    "SiteUpdate",
    "TensorMap",
    "takes_place",
]
