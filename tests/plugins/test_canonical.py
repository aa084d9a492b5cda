"""The canonical form on disk: files of compositions that are damaged, or that say what is not understood."""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapter_hub.errors import CorruptFile, NotFinite, ShapeMismatch, UnknownSite, UnsupportedFeature


@pytest.fixture
def damaged(open_hub, folders, tmp_path):
    """Registers a composition whose tensors and fields were changed; None takes one away."""
    hub = open_hub()
    hub.register("a", folders[0])
    hub.compose("mix", {"a": 0.5}, folder=tmp_path / "mix")

    def register(tensors, fields):
        path = tmp_path / "mix" / "adapter.json"
        changed = {**load_file(tmp_path / "mix" / "adapter.safetensors"), **tensors}
        save_file({n: t for n, t in changed.items() if t is not None}, tmp_path / "mix" / "adapter.safetensors")
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
        hub.register("damaged", tmp_path / "mix")

    return register


Q = "model.layers.0.self_attn.q_proj.update_"
ROW, ROWS = torch.ones(1, 64), torch.ones(2, 64)


@pytest.mark.parametrize(
    ("tensors", "error", "said"),
    [
        ({f"{Q}nothing": torch.ones(2)}, UnsupportedFeature, "update_nothing is no part"),
        ({f"{Q}A": None}, CorruptFile, "update_A is missing"),
        ({f"{Q}A": torch.ones(2, 3)}, ShapeMismatch, "q_proj: A is"),
        ({f"{Q}A": torch.full((4, 64), math.nan)}, NotFinite, "NaN"),
        ({f"{Q}rows": ROW}, CorruptFile, "update_row_ids is missing"),
        ({f"{Q}rows": ROW, f"{Q}row_ids": torch.tensor([10**12])}, UnsupportedFeature, "no increasing numbers"),
        ({f"{Q}rows": ROW, f"{Q}row_ids": torch.tensor([-1])}, UnsupportedFeature, "no increasing numbers"),
        ({f"{Q}rows": ROWS, f"{Q}row_ids": torch.tensor([5, 5])}, UnsupportedFeature, "no increasing numbers"),
        ({f"{Q}rows": ROWS, f"{Q}row_ids": torch.tensor([5])}, ShapeMismatch, "do not fit together"),
        ({"model.norm.update_D": ROWS}, UnsupportedFeature, "of the kind other"),
        ({"model.nowhere.update_D": ROWS}, UnknownSite, "nowhere"),
    ],
)
def test_damaged_tensors_are_refused(tensors, error, said, damaged):
    with pytest.raises(error, match=said):
        damaged(tensors, {})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"same": {f"{Q}branch_scale": "nowhere"}}, "the field same"),
        ({"same": {f"{Q}branch_scale": ["x"]}}, "the field same"),
        ({"same": {f"{Q}A": f"{Q}B"}}, "the field same"),
        ({"same": [1]}, "the field same"),
        ({"tomorrow": 1}, "tomorrow"),
    ],
)
def test_fields_that_are_not_understood_are_refused(fields, said, damaged):
    with pytest.raises(UnsupportedFeature, match=said):
        damaged({}, fields)
