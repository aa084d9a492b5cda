"""The registry against a plain model of it, through random steps from two sides of one file."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_hub.errors import NotRegistered
from adapter_hub.store import Registry

from .model import NAMES, NUMBERS, WORDS, Model, Step, draw, take, view

REFERENCES = [
    f"{name}{tail}" for name in NAMES for tail in ("", *(f"@{n}" for n in NUMBERS), *(f":{w}" for w in WORDS))
]

steps = st.lists(
    st.tuples(st.booleans(), st.integers(0, 2**32).map(lambda seed: draw(random.Random(seed)))), max_size=40
)


@settings(max_examples=40, deadline=None)
@given(taken=steps)
def test_each_step_does_what_it_does_to_the_model(taken: list[tuple[bool, Step]]):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.sqlite3"
        sides = [Registry(path), Registry(path)]
        model = Model()
        for first, step in taken:
            assert take(step, sides[first]) == take(step, model), step
            for registry in sides:
                _check(registry, model)
        for registry in sides:
            registry.close()
        again = Registry(path)
        _check(again, model)
        again.close()


def test_long_runs_in_memory():
    for seed in range(10):
        rng, registry, model = random.Random(seed), Registry(), Model()
        for _ in range(200):
            step = draw(rng)
            assert take(step, registry) == take(step, model), step
            _check(registry, model)
        registry.close()


def _check(registry: Registry, model: Model) -> None:
    expected = model.view()
    assert view(registry) == expected
    for reference in REFERENCES:
        try:
            name, number = model.resolve(reference)
        except NotRegistered:
            with pytest.raises(NotRegistered):
                registry.resolve([reference])
        else:
            (info,) = registry.resolve([reference])
            assert info == registry.get(reference)
            assert info.key == f"{name}@{number}"
    for tag in WORDS:
        keys = [info.key for info in registry.list(tag, all_versions=True)]
        assert keys == [key for key, (_, tags, *_) in expected.items() if tag in tags]
    for all_versions in (True, False):
        keys = [key for key, (_, _, current, *_) in expected.items() if current or all_versions]
        assert _paged(registry, all_versions) == keys
    for name, known in model.names.items():
        assert [info.version for info in registry.versions(name)] == sorted(known.versions)


def _paged(registry: Registry, all_versions: bool) -> list[str]:
    keys: list[str] = []
    while page := registry.list(all_versions=all_versions, after=keys[-1] if keys else None, limit=2):
        keys += [info.key for info in page]
    return keys
