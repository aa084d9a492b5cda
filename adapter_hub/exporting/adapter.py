"""An adapter as files of its own, through an exporter that a plugin brings."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ..base import BaseModel
from ..engine import Voice
from ..errors import AdapterHubError, PluginError, RequestError
from ..hookspecs import Exporter, Kept
from ..loading import LoadedAdapter
from ..plugin_manager import Plugins
from .card import CARD, Card
from .place import appearing
from .report import Exported, relative_error
from .voices import CHAT_TEMPLATE, write_voice


def get_exporter(plugins: Plugins, name: str, others: str = "") -> Exporter:
    """The exporter of that name.

    Args:
        others: ways beside the exporters that a caller has, for the message.

    Raises:
        RequestError: there is none; the message lists those there are.
    """
    found = next((exporter for exporter in plugins.exporters if exporter.name == name), None)
    if found is None:
        ways = "; ".join([*filter(None, [others]), *(f"{way.name}: {way.help}" for way in plugins.exporters)])
        raise RequestError(f"there is no way to export as {name!r}.", hint=f"Ways: {ways or 'none'}.")
    return found


def export_adapter(
    exporter: Exporter,
    owner: str,
    adapter: LoadedAdapter,
    base: BaseModel,
    voice: Voice,
    folder: Path,
    card: Card,
    *,
    rank: int | None = None,
    record: Mapping[str, Any] | None = None,
) -> Exported:
    """Write an adapter with the tokenizer, the chat template and the card that go with it; whole or not at all.

    Args:
        exporter: brought by the plugin ``owner``.
        adapter: lowered for ``base``.
        base: the base whose weights tell what cannot be written as it is.
        voice: what the adapter speaks with; written where it brings one of its own.
        folder: where to; it may be there only if it is empty.
        card: the facts for people.
        rank: the largest that may be written; None takes no loss.
        record: how the adapter was composed.

    Raises:
        RequestError: ``folder`` is taken or cannot be written, or ``rank`` is not above 0.
        AdapterError: the exporter cannot write this adapter; names the site.
        PluginError: the exporter broke.
    """
    if rank is not None and (not isinstance(rank, int) or isinstance(rank, bool) or rank < 1):
        raise RequestError(f"rank is {rank!r}.", hint="Give a whole number above 0.")
    with appearing(folder) as whole:
        kept = _write(exporter, owner, adapter, base, whole, rank, record or {})
        if adapter.tokenizer is not None:
            write_voice(whole, voice)
        elif adapter.chat_template is not None:
            (whole / CHAT_TEMPLATE).write_text(adapter.chat_template, encoding="utf-8")
        lost = relative_error(kept)
        if lost:
            words = (
                f"{lost:.1%} of the adapter's change is lost in this form (norm of the error over norm of the change)."
            )
            card = replace(card, notes=(*card.notes, words))
        (whole / CARD).write_text(card.text(exporter.name), encoding="utf-8")
        for path in whole.iterdir():
            shutil.copymode(whole / CARD, path)  # safetensors writes for the owner alone
    return Exported.of(folder, exporter.name, kept=tuple(kept))


def _write(
    exporter: Exporter,
    owner: str,
    adapter: LoadedAdapter,
    base: BaseModel,
    folder: Path,
    rank: int | None,
    record: Mapping[str, Any],
) -> list[Kept]:
    try:
        return exporter.write(adapter, base, folder, rank=rank, record=record)
    except (AdapterHubError, OSError, SafetensorError):
        raise
    except Exception as error:
        raise PluginError(
            f"plugin {owner!r} fails in {exporter.name}.write: {type(error).__name__}: {error}.",
            hint="Nothing was written; report it to the plugin's author.",
        ) from error
