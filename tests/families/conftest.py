from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, dynamic_module_utils

from adapter_hub import AdapterHub, Settings

from .kinds import save_kind

SETTINGS = Settings(trust_remote_code=True)


@pytest.fixture(scope="session", autouse=True)
def _own_modules(tmp_path_factory):
    """Code of models is copied to a cache before it runs; not to that of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        yield


@pytest.fixture(scope="session")
def kinds(tmp_path_factory) -> Callable[[str], Path]:
    """Base folders of every family, each made once."""
    root, made = tmp_path_factory.mktemp("families"), {}

    def kind(name: str) -> Path:
        if name not in made:
            made[name] = save_kind(root / name, name)
        return made[name]

    return kind


@pytest.fixture
def open_kind(kinds):
    """Opens hubs on these bases and closes them after the test."""
    opened: list[AdapterHub] = []

    def open_one(name: str, **options) -> AdapterHub:
        options = {"quantization": None, "dtype": torch.float32, "device": "cpu", "settings": SETTINGS, **options}
        opened.append(AdapterHub.from_pretrained(kinds(name), **options))
        return opened[-1]

    yield open_one
    for hub in opened:
        hub.close()


def load(base: Path, **options):
    """The model of a base as PEFT is given it."""
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, trust_remote_code=True, **options)
