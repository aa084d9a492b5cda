"""Opening what a command works on: the registry, the loader, or a whole hub."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from ..config import Settings
from ..store import Registry
from ..store.expression import Expression, is_expression
from .flags import settings_from

if TYPE_CHECKING:
    from ..hub import AdapterHub
    from ..loading import AdapterLoader


def open_registry(settings: Settings) -> closing[Registry]:
    """The registry's file alone: no torch, no base.

    Raises:
        RegistryError: it cannot be opened.
    """
    return closing(Registry(settings.registry))


def check_registered(settings: Settings, names: Sequence[str | None] = ()) -> None:
    """Open the registry and look names up, those in sums too, so that a mistake shows before the base is loaded.

    Raises:
        RequestError: a sum is not written as one.
        NotRegistered: there is none of a given name.
        RegistryError: the registry cannot be opened.
    """
    with open_registry(settings) as registry:
        for name in names:
            if name is not None:
                for reference in Expression.parse(name).weights if is_expression(name) else [name]:
                    registry.get(reference)


@contextmanager
def open_loader(settings: Settings) -> Iterator[AdapterLoader]:
    """The way in for adapters, without a base.

    Raises:
        PluginError: a plugin is broken.
    """
    from ..loading import AdapterLoader
    from ..plugin_manager import load_plugins

    with closing(AdapterLoader(load_plugins(), settings)) as loader:
        yield loader


def open_hub(args: argparse.Namespace) -> AdapterHub:
    """A hub on the base and the registry that the flags name.

    Raises:
        BaseModelError: the base cannot be fetched or loaded.
        RegistryError: the registry cannot be opened.
    """
    if not args.debug:
        hush_loading()
    from ..hub import AdapterHub

    settings = settings_from(args)
    return AdapterHub.from_pretrained(
        args.base,
        quantization=None if args.quantization == "none" else args.quantization,
        dtype=args.dtype,
        device=args.device,
        registry=settings.registry,
        settings=settings,
    )


def hush_loading() -> None:
    """Switch transformers' bars over a load off; those over a download stay."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils.logging import disable_progress_bar

    downloads_show = not are_progress_bars_disabled()
    disable_progress_bar()  # which silences huggingface_hub with it
    if downloads_show:
        enable_progress_bars()
