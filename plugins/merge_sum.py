"""Merge method: the exact weighted sum. Each adapter's effect is added with its weight; nothing is lost.

PEFT calls it ``cat``, for the low-rank factors lie side by side and their ranks add up. It takes every form of update.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from adapter_hub.hookspecs import Merged, MergeMethod, SiteToMerge, hookimpl
from adapter_hub.updates import weighted_sum


class Sum:
    """Effects added up."""

    name = "cat"
    help = "the exact weighted sum of the adapters' effects, of any forms; ranks add up"
    options: Mapping[str, str] = {}

    def bind(self, options: Mapping[str, Any]) -> Callable[[SiteToMerge], Merged]:
        """There are none to bind."""
        return _merge


def _merge(site: SiteToMerge) -> Merged:
    return Merged(weighted_sum(site.path, [(one.weight, one.update) for one in site.parents], site.base))


@hookimpl
def adapter_hub_merge_methods() -> list[MergeMethod]:
    """The one method here."""
    return [Sum()]
