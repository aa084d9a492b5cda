"""Which sites are merged, and what is said of those that are not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from adapter_hub.base import BaseModel
from adapter_hub.errors import NoRoom
from adapter_hub.runtime.merge import merge
from adapter_hub.updates import LinearUpdate, ParameterUpdate


class Scaled(nn.Linear):
    """A linear whose forward is more than its product."""

    def forward(self, x):
        return 3 * super().forward(x)


class Opaque(nn.Module):
    """A linear that keeps its weight in a way of its own."""

    def __init__(self):
        super().__init__()
        self.in_features = self.out_features = 8
        self.weight = nn.Parameter(torch.zeros(8, 8, dtype=torch.int8), requires_grad=False)

    def forward(self, x):
        return x


class Model(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.plain, self.scaled, self.opaque, self.norm = nn.Linear(8, 6), Scaled(8, 6), Opaque(), nn.LayerNorm(8)
        self.table = nn.Embedding(4, 8)
        self.to(dtype)

    device = torch.device("cpu")

    def get_input_embeddings(self):
        return self.table

    def get_output_embeddings(self):
        return None


class Shift:
    """A class of a plugin that does not say what dense form it has."""

    def tensors(self):
        return {}

    def base_input(self, x):
        return x

    def output(self, module, x, base_output):
        return base_output + 1


class Wrong(LinearUpdate):
    """One that says that it has, and has another."""

    def merged(self, weight, bias):
        return weight + 1, bias


class Broken(LinearUpdate):
    def merged(self, weight, bias):
        raise KeyError("gate")


def _merge(path, update, dtype=torch.float32, reserve=lambda _: None):
    model = Model(dtype)
    base = BaseModel(model, None, name="m", compute_dtype=dtype)
    return merge(base, {path: (update, model.get_submodule(path).forward)}, reserve), model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_site_is_rounded_once_to_the_type_of_the_activations(dtype):
    A, B, asked = torch.randn(2, 8), torch.randn(6, 2), []
    merged, model = _merge("plain", LinearUpdate(A=A, B=B), dtype, asked.append)
    weight, bias = merged.linears["plain"]
    assert torch.equal(weight, torch.addmm(model.plain.weight.float(), B, A).to(dtype))
    assert torch.equal(bias, model.plain.bias)
    assert bias.data_ptr() != model.plain.bias.data_ptr(), "nothing of the base lies in the cache"
    assert asked == [merged.num_bytes, 0]
    assert merged.num_bytes == 6 * 9 * dtype.itemsize
    assert merged.kept == {}


def test_what_a_plugins_class_comes_to_is_read_off():
    merged, model = _merge("plain", Shift())
    x = torch.randn(5, 8)
    torch.testing.assert_close(
        torch.nn.functional.linear(x, *merged.linears["plain"]), Shift().output(None, x, model.plain(x))
    )


def test_outputs_that_an_adapter_adds_are_counted():
    asked = []
    update = LinearUpdate(row_ids=torch.tensor([7]), rows=torch.randn(1, 8))
    merged, _ = _merge("plain", update, reserve=asked.append)
    assert merged.linears["plain"][0].shape == (8, 8)
    assert asked == [4 * 6 * 9, 4 * 2 * 9]


@pytest.mark.parametrize(
    ("path", "update", "said"),
    [
        ("norm", ParameterUpdate({"bias": torch.ones(8)}), "a ParameterUpdate is not merged"),
        ("scaled", LinearUpdate(bias=torch.ones(6)), "would give other outputs"),
        ("opaque", LinearUpdate(bias=torch.ones(8)), "cannot be read as numbers"),
        ("plain", Wrong(bias=torch.ones(6)), "would give other outputs"),
        ("plain", Broken(bias=torch.ones(6)), "a Broken fails to merge: 'gate'"),
        ("plain", LinearUpdate(bias=torch.full((6,), float("nan"))), "relative error nan"),
    ],
)
def test_a_site_that_cannot_be_merged_stays_on_the_factors_path_and_says_why(path, update, said):
    merged, _ = _merge(path, update)
    assert merged.linears == {}
    assert said in merged.kept[path]
    assert merged.num_bytes == 0


def test_no_room_is_known_before_anything_is_made():
    def refuse(num_bytes):
        raise NoRoom(f"{num_bytes} bytes")

    class Unused(LinearUpdate):
        def merged(self, weight, bias):
            raise AssertionError("it was made all the same")

    with pytest.raises(NoRoom, match="216 bytes"):
        _merge("plain", Unused(bias=torch.ones(6)), reserve=refuse)
