"""Adapters made of adapters: by a method and kept, or as a sum for one request."""

from .compose import Composed, bind_method, compose
from .parents import Parent, check_parents, hold_same_base
from .summed import summed

__all__ = ["Composed", "Parent", "bind_method", "check_parents", "compose", "hold_same_base", "summed"]
