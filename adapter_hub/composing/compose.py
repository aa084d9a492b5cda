"""One adapter made of several by a method that a plugin brings."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from ..base import BaseModel
from ..errors import AdapterError, AdapterHubError, PluginError, RequestError
from ..hookspecs import Contribution, Merged, MergeMethod, SiteToMerge
from ..loading import LoadedAdapter
from ..plugin_manager import Plugins
from ..store.expression import sum_digest
from .parents import Parent, common_voice, hold_one_vocabulary
from .summed import composed_adapter, names_of, sites_of

Merge = Callable[[SiteToMerge], Merged]


@dataclass(frozen=True)
class Method:
    """A merge method with its options bound.

    Args:
        name: what it is called.
        owner: the plugin that brought it.
        options: as the user gave them.
        seed: of everything that is drawn.
        merge: merges one site.
    """

    name: str
    owner: str
    options: Mapping[str, Any]
    seed: int
    merge: Merge


@dataclass(frozen=True)
class Composed:
    """A composition in host memory, and the record of how it came about, which goes with it wherever it is written."""

    adapter: LoadedAdapter
    record: Mapping[str, Any]


def bind_method(plugins: Plugins, name: str, seed: int, options: Mapping[str, Any]) -> Method:
    """The method of that name under the user's options; those that are None count as not given.

    Raises:
        RequestError: there is none, it has no such option, or an option has a value that it cannot have.
        PluginError: the method broke.
    """
    method = next((method for method in plugins.merge_methods if method.name == name), None)
    if method is None:
        known = ", ".join(sorted(method.name for method in plugins.merge_methods)) or "none"
        raise RequestError(f"there is no way {name!r} to compose adapters.", hint=f"Methods: {known}.")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise RequestError(f"seed is {seed!r}.", hint="Give a whole number.")
    given = {option: value for option, value in options.items() if value is not None}
    for option in given:
        if option not in method.options:
            takes = "; ".join(f"{known}: {meaning}" for known, meaning in method.options.items())
            raise RequestError(f"the method {name} has no option {option!r}.", hint=f"It takes {takes or 'none'}.")
    merge: Merge = _ask(plugins.owner(method), method, "bind", given)
    return Method(name, plugins.owner(method), given, seed, merge)


def compose(parents: Sequence[Parent], method: Method, base: BaseModel) -> Composed:
    """Merge site by site; a site that one parent changes is merged as well, of that one.

    Raises:
        AdapterError: the method cannot merge these updates; names adapters and site.
        PluginError: the method broke.
    """
    speaking = [parent for parent in parents if parent.weight]
    hold_one_vocabulary(speaking, base)
    tokenizer, chat_template, agreed = common_voice(speaking, base)
    ranks = [rank for parent in speaking for rank in parent.loaded.ranks]
    merged: dict[str, Merged] = {}
    for path in tqdm(sites_of(speaking), desc=f"compose by {method.name}", unit="site", disable=None):
        site = SiteToMerge(
            path=path,
            parents=_contributions(path, speaking),
            base=base,
            generator=torch.Generator().manual_seed(site_seed(method.seed, path)),
            largest_rank=max(ranks, default=0),
        )
        try:
            merged[path] = _merge(method, site)
        except AdapterError as error:
            raise type(error)(f"{names_of(speaking)}: {error.message}", hint=error.hint) from error
    adapter = composed_adapter(
        digest=sum_digest((parent.loaded.digest, parent.weight) for parent in speaking),
        updates={path: one.update for path, one in merged.items()},
        shared=(),
        base=base,
        tokenizer=tokenizer,
        chat_template=chat_template,
    )
    return Composed(adapter, _record(parents, method, base, merged, agreed))


def site_seed(seed: int, path: str) -> int:
    """The seed of what is drawn at one site: it depends on no other site, nor on their order."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{path}".encode()).digest()[:8]) >> 1


def _contributions(path: str, parents: Sequence[Parent]) -> tuple[Contribution, ...]:
    return tuple(
        Contribution(parent.name, parent.weight, parent.loaded.updates[path], parent.scales.get(path))
        for parent in parents
        if path in parent.loaded.updates
    )


def _record(
    parents: Sequence[Parent], method: Method, base: BaseModel, merged: Mapping[str, Merged], agreed: bool
) -> dict[str, Any]:
    """How it came about; the same for the same composition, so that its content has the same digest."""
    change = math.hypot(*(one.change for one in merged.values()))
    error = math.hypot(*(one.error for one in merged.values()))
    return {
        "method": method.name,
        "options": dict(method.options),
        "seed": method.seed,
        "parents": [
            {"name": parent.name, "weight": float(parent.weight), "digest": parent.loaded.digest} for parent in parents
        ],
        "base_fingerprint": base.fingerprint,
        "relative_error": round(error / change, 6) if change else 0.0,
        "voice": "parents" if agreed else "base",
    }


def _merge(method: Method, site: SiteToMerge) -> Merged:
    found = _ask(method.owner, method, "merge", site)
    if not isinstance(found, Merged):
        raise PluginError(
            f"plugin {method.owner!r} gives a {type(found).__name__} in {method.name}.", hint="Return a Merged."
        )
    return found


def _ask(owner: str, method: MergeMethod | Method, call: str, argument: Any) -> Any:
    try:
        return getattr(method, call)(argument)
    except AdapterHubError:
        raise
    except Exception as error:
        raise PluginError(
            f"plugin {owner!r} fails in {method.name}.{call}: {type(error).__name__}: {error}.",
            hint="Nothing was changed; report it to the plugin's author.",
        ) from error
