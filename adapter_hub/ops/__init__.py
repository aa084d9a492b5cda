"""Grouped products: what a site does with a batch whose rows use different adapters."""

from .composition import Composition

__all__ = ["Composition"]
