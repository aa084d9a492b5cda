from __future__ import annotations

import pytest

from adapter_hub import Settings


@pytest.fixture
def open_three(open_hub, folders):
    """A hub with the adapters a, b and c registered; settings by keyword."""

    def open_one(**settings):
        hub = open_hub(settings=Settings(**settings))
        for name, folder in zip("abc", folders, strict=True):
            hub.register(name, folder)
        return hub

    return open_one


@pytest.fixture
def alone(open_three):
    """Texts of single requests, one after the other, remembered."""
    hub, known = open_three(), {}

    def text(prompt, name, new=12):
        if (prompt, name, new) not in known:
            known[prompt, name, new] = hub.generate(prompt, adapter=name, max_new_tokens=new).token_ids
        return known[prompt, name, new]

    return text
