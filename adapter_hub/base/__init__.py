"""The base: load it in 4 bit, list its sites, tell it from others, fetch the embedded default."""

from .loader import load_base
from .model import BaseModel, BaseReport
from .sites import Site

__all__ = ["BaseModel", "BaseReport", "Site", "load_base"]
