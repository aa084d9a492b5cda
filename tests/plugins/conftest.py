from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from adapter_hub import AdapterHub, Settings

from ..every import ia3_plugins
from .tool_files.base import save_drawn_base


@pytest.fixture(scope="session")
def drawn_hubs(tmp_path_factory) -> Iterator[Callable[[str], AdapterHub]]:
    root, hubs = tmp_path_factory.mktemp("drawn"), {}

    def hub_of(kind: str) -> AdapterHub:
        if kind not in hubs:
            folder = save_drawn_base(root / kind, kind)
            settings = Settings(allow_pickle=True)
            hubs[kind] = AdapterHub.from_pretrained(
                folder, quantization=None, device="cpu", settings=settings, plugins=ia3_plugins()
            )
        return hubs[kind]

    yield hub_of
    for hub in hubs.values():
        hub.close()


@pytest.fixture
def open_drawn(drawn_hubs):
    """Hubs on the bases that the tools' files were made for, one of each kind, with nothing registered."""
    used: list[AdapterHub] = []

    def open_one(kind: str) -> AdapterHub:
        used.append(drawn_hubs(kind))
        return used[-1]

    yield open_one
    for hub in used:
        hub.unload()
        for info in hub.adapters():
            hub.remove(info.name)
