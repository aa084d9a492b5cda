"""adapter_hub: one frozen 4-bit base model, any number of adapters of any kind, each request with its own."""

from typing import TYPE_CHECKING, Any

from .hookspecs import hookimpl, hookspec

if TYPE_CHECKING:
    from .config import Settings
    from .engine import Completion, Sampling
    from .errors import AdapterHubError
    from .hub import AdapterHub
    from .runtime import MergeReport
    from .store import AdapterInfo

__version__ = "0.1.0"
__all__ = [
    "AdapterHub",
    "AdapterHubError",
    "AdapterInfo",
    "Completion",
    "MergeReport",
    "Sampling",
    "Settings",
    "hookimpl",
    "hookspec",
]

_HOMES = {
    "AdapterHub": "hub",
    "AdapterHubError": "errors",
    "AdapterInfo": "store",
    "Completion": "engine",
    "MergeReport": "runtime",
    "Sampling": "engine",
    "Settings": "config",
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use: plugins and ``list`` need no transformers."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
