from __future__ import annotations

import logging
import os
import random
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

# Processes that run beside each other share the cores, or they would wait for one another at every product.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, share)))

import torch

# Without a GPU Triton's kernels run in its interpreter, which must be chosen before anything imports triton.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

from hypothesis import HealthCheck
from hypothesis import settings as examples
from peft import LoraConfig

from adapter_hub import AdapterHub, Settings
from adapter_hub.testing import random_ids

from .every import ia3_plugins, save_all
from .gate import Gate
from .models import save_adapter, save_base

# The same examples in every run, however slow the machine is.
examples.register_profile(
    "same", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
examples.load_profile("same")

# Files that take longest begin first, so that no process waits for another's last one.
LONGEST = ["test_real_base.py", "test_openai.py", "test_served.py", "test_default_base.py", "test_every_variant.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the longest files to the front."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Draw the same numbers in every run, whichever tests came before in the same process."""
    random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Tiny base folders by kind, each made once."""
    root, made = tmp_path_factory.mktemp("bases"), {}

    def base(kind: str = "llama") -> Path:
        if kind not in made:
            made[kind] = save_base(root / kind, kind)
        return made[kind]

    return base


@pytest.fixture
def open_hub(bases: Callable[[str], Path]):
    """Opens hubs on tiny bases and closes them after the test."""
    opened: list[AdapterHub] = []

    def open_one(kind: str = "llama", *, settings: Settings | None = None, **options) -> AdapterHub:
        options.setdefault("quantization", None)
        options.setdefault("device", "cpu")  # tests/test_every_variant.py asks for the other one
        hub = AdapterHub.from_pretrained(bases(kind), settings=settings or Settings(), **options)
        opened.append(hub)
        return hub

    yield open_one
    for hub in opened:
        hub.close()


@pytest.fixture(scope="session")
def every_folder(bases, tmp_path_factory) -> dict[str, Path]:
    """The folder of an adapter of each variant for the tiny base, by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # PEFT on saved embeddings
        return save_all(bases(), tmp_path_factory.mktemp("every"))


@pytest.fixture(scope="module")
def full_hub(bases, every_folder):
    """A hub with each of them registered; what a test makes resident or composes, it takes away again."""
    with AdapterHub.from_pretrained(bases(), quantization=None, device="cpu", plugins=ia3_plugins()) as hub:
        for name, folder in every_folder.items():
            hub.register(name, folder)
        yield hub


@pytest.fixture(scope="module")
def tiny_hub(bases, tmp_path_factory):
    """A hub with the strong adapters "a", which is resident, and "b"; for tests that leave it as it was."""
    plain, root = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"), tmp_path_factory.mktemp("tiny")
    with AdapterHub.from_pretrained(bases(), quantization=None, device="cpu", settings=Settings()) as hub:
        hub.load_adapter(save_adapter(bases(), root / "a", plain, seed=1), "a")
        hub.register("b", save_adapter(bases(), root / "b", plain, seed=2))
        yield hub


@pytest.fixture
def gate(monkeypatch):
    """Stands before the engine's forwards. It is open; what a test does while it is shut is done in time."""
    return Gate(monkeypatch)


@pytest.fixture
def logging_kept():
    """Puts the process's logging back as it was."""
    loggers = [logging.getLogger(name) for name in (None, "adapter_hub", "uvicorn", "uvicorn.error")]
    before = [(logger.handlers[:], logger.level) for logger in loggers]
    yield
    for logger, (handlers, level) in zip(loggers, before, strict=True):
        logger.handlers[:] = handlers
        logger.setLevel(level)


@pytest.fixture
def ids() -> torch.Tensor:
    """Token ids [1, 12]."""
    return random_ids(1)


@pytest.fixture
def folders(bases, tmp_path):
    """Three adapters of one tiny base, strong enough to change what it says."""
    plain = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear")
    return [save_adapter(bases("llama"), tmp_path / f"a{k}", plain, seed=k) for k in range(3)]


@pytest.fixture
def hub(open_hub, folders) -> AdapterHub:
    """A hub with adapter "a" resident, and "b" registered."""
    hub = open_hub()
    hub.load_adapter(folders[0], "a", tags=["first"])
    hub.register("b", folders[1])
    return hub
