"""The way in for adapters: source -> format -> variant -> site updates -> proof."""

from .inspection import Inspection, inspect_folder
from .pipeline import AdapterLoader, LoadedAdapter

__all__ = ["AdapterLoader", "Inspection", "LoadedAdapter", "inspect_folder"]
