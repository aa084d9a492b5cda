"""The steps of a load as they are told: all of them for a good adapter, those before the fault for a bad one."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file, save_file

from adapter_hub.errors import AdapterHubError
from adapter_hub.loading import STEPS, watching

WEIGHTS = "adapter_model.safetensors"


def _load(hub, folder):
    told = []
    with watching(lambda step, found: told.append((step, found))):
        try:
            hub.register("x", folder)
        except AdapterHubError as error:
            return told, error
    return told, None


def test_a_good_adapter_passes_every_step_in_order(open_hub, folders):
    hub = open_hub()
    told, error = _load(hub, folders[0])
    assert error is None
    assert [step for step, _ in told] == list(STEPS)
    found = dict(told)
    assert found["variant"] == hub.info("x").variant
    assert found["sites"] == f"{hub.info('x').sites} sites"
    assert found["content"] == f"sha256 {hub.info('x').digest[:12]}"
    assert _load(hub, folders[1])[1] is None
    assert len(told) == len(STEPS), "nobody is told after the block"


def _damage(folder, change):
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


@pytest.mark.parametrize(
    ("change", "last"),
    [
        (lambda t: t.update({"stray.weight": t[min(t)].clone()}), "sites"),
        (lambda t: t[min(t)].fill_(float("nan")), "tensors"),
        (lambda t: t.update({min(t): t[min(t)][:, :5].clone()}), "base"),
    ],
)
def test_a_bad_one_stops_before_the_step_that_it_fails(open_hub, folders, change, last):
    _damage(folders[0], change)
    told, error = _load(open_hub(), folders[0])
    assert error is not None
    steps = list(STEPS)
    assert [step for step, _ in told] == steps[: steps.index(last) + 1]


def test_what_is_no_adapter_is_told_to_be_there_and_no_more(open_hub, tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    told, error = _load(open_hub(), tmp_path)
    assert [step for step, _ in told] == ["source"]
    assert error is not None
