"""The way in for adapters: source -> format -> variant -> site updates -> proof."""

from .checkpoint import Checkpoint, open_checkpoint
from .inspection import Inspection, inspect_folder
from .options import Options, identity
from .pipeline import AdapterLoader, LoadedAdapter, reading
from .registered import check_files, fetch_registered, hold_digest
from .steps import STEPS, watching
from .tuned import Imported, get_importer, import_tuned, worst_first

__all__ = [
    "STEPS",
    "AdapterLoader",
    "Checkpoint",
    "Imported",
    "Inspection",
    "LoadedAdapter",
    "Options",
    "check_files",
    "fetch_registered",
    "get_importer",
    "hold_digest",
    "identity",
    "import_tuned",
    "inspect_folder",
    "open_checkpoint",
    "reading",
    "watching",
    "worst_first",
]
