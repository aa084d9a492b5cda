"""A hub that merges by itself, and what that takes."""

from __future__ import annotations

from adapter_hub import Settings

ONE = 4 * sum(2 * n for n in (64 * 64 * 2, 32 * 64 * 2, 128 * 64 * 3))  # merged bytes of "all-linear", two layers


def open_auto(open_hub, folders, **settings):
    """With the adapters a, b and c resident: whoever carries three whole batches of eight tokens is merged."""
    hub = open_hub(settings=Settings(merge_policy="auto", merge_after=3, merge_min_tokens=8, **settings))
    for name, folder in zip("abc", folders, strict=True):
        hub.load_adapter(folder, name)
    return hub
