"""The way out: an adapter as files of its own, or folded into a plain checkpoint."""

from .adapter import export_adapter, get_exporter
from .card import Card, weights_of
from .model import export_model
from .report import Exported, relative_error

__all__ = ["Card", "Exported", "export_adapter", "export_model", "get_exporter", "relative_error", "weights_of"]
