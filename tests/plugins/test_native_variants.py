"""LoRA-drop, Delta-LoRA and compressed tuned weights in the project's own format, against dense weights by hand."""

from __future__ import annotations

import json

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from adapter_hub.errors import AdapterError, CorruptFile, ShapeMismatch, UnsupportedFeature
from adapter_hub.testing import assert_rows_as_alone
from adapter_hub.updates.linear import pack_signs
from plugins.native_folder import write_folder

from ..models import dense_logits, save_adapter, served

LAYERS = [f"model.layers.{k}" for k in range(2)]
Q = [f"{layer}.self_attn.q_proj" for layer in LAYERS]
UP = [f"{layer}.mlp.up_proj" for layer in LAYERS]
SHAPES = {**dict.fromkeys(Q, (64, 64)), **dict.fromkeys(UP, (128, 64))}
RANK, ALPHA = 4, 6.0


def _pair(shape, seed, rank=RANK):
    generator = torch.Generator().manual_seed(seed)
    rows, columns = shape
    return torch.randn(rank, columns, generator=generator) * 0.2, torch.randn(rows, rank, generator=generator) * 0.2


def _dropped(folder, seed=1, **fields):
    """Pairs of their own at layer 0 alone; the change of every weight beside it."""
    tensors, changes = {}, {}
    groups = {"q": Q[1:], "up": [*UP]}
    for path in (Q[0], *(f"shared.{group}" for group in groups)):
        A, B = _pair(SHAPES[groups.get(path.removeprefix("shared."), [path])[0]], seed + len(tensors))
        tensors |= {f"{path}.lora_A.weight": A, f"{path}.lora_B.weight": B}
        for site in groups.get(path.removeprefix("shared."), [path]):
            changes[f"{site}.weight"] = ALPHA / RANK * B @ A
    write_folder(folder, "lora_drop", tensors, {"r": RANK, "lora_alpha": ALPHA, "shared": groups, **fields})
    return changes


def _delta(folder, form, dtype=torch.float32, seed=1):
    """A pair everywhere, and a change of the weight in one of the three forms."""
    tensors, changes = {}, {}
    for k, (path, shape) in enumerate(SHAPES.items()):
        A, B = (factor.to(dtype) for factor in _pair(shape, seed + k))
        tensors |= {f"{path}.lora_A.weight": A, f"{path}.lora_B.weight": B}
        moved = torch.randn(shape, generator=torch.Generator().manual_seed(seed + 50 + k)) * 0.05
        if form == "dense":
            tensors[f"{path}.delta_weight"] = moved
        elif form == "pair":
            a, b = _pair(shape, seed + 70 + k, 2 * RANK)
            tensors |= {f"{path}.delta_A": a, f"{path}.delta_B": b}
            moved = b @ a
        else:
            scale = torch.linspace(0.01, 0.1, shape[0])
            tensors |= {f"{path}.delta_signs": pack_signs(moved), f"{path}.delta_scale": scale}
            moved = torch.where(moved >= 0, 1.0, -1.0) * scale.unsqueeze(1)
        changes[f"{path}.weight"] = ALPHA / RANK * B.float() @ A.float() + moved
    write_folder(folder, "delta_lora", tensors, {"r": RANK, "lora_alpha": ALPHA})
    return changes


def _embedding(folder, seed=1):
    path, (A, B) = "model.embed_tokens", _pair((96, 64), seed)
    write_folder(folder, "tuned_weights", {f"{path}.delta_A": A, f"{path}.delta_B": B}, {"relative_error": 0.1})
    return {f"{path}.weight": B @ A}


CASES = {
    "lora_drop": _dropped,
    "delta_lora-dense": lambda folder: _delta(folder, "dense"),
    "delta_lora-pair": lambda folder: _delta(folder, "pair"),
    "delta_lora-pair-bf16": lambda folder: _delta(folder, "pair", torch.bfloat16),
    "delta_lora-signs": lambda folder: _delta(folder, "signs"),
    "tuned_weights-embedding": _embedding,
}


@pytest.mark.parametrize("kind", ["llama", "llama-tied"])
@pytest.mark.parametrize("case", CASES)
def test_logits_equal_those_of_changed_weights(case, kind, bases, open_hub, ids, tmp_path):
    changes = CASES[case](tmp_path / "a")
    hub = open_hub(kind)
    bare = hub.model(ids).logits
    assert hub.load_adapter(tmp_path / "a", "a").variant == case.split("-")[0]
    logits, _ = served(hub, "a", ids, 1)
    torch.testing.assert_close(logits, dense_logits(bases(kind), changes, ids), atol=1e-4, rtol=0)
    assert (logits - bare).abs().max() > 0.05
    hub.unload()
    assert torch.equal(hub.model(ids).logits, bare)


def test_each_row_of_a_mixed_batch_is_as_alone(bases, open_hub, tmp_path):
    hub = open_hub()
    hub.load_adapter(
        save_adapter(bases("llama"), tmp_path / "l", LoraConfig(target_modules=["q_proj", "up_proj"])), "l"
    )
    for case, make in CASES.items():
        make(tmp_path / case)
        hub.load_adapter(tmp_path / case, case)
    assert_rows_as_alone(hub, [None, "l", *CASES, None])


def test_a_shared_pair_is_kept_once_also_for_two_adapters(open_hub, tmp_path):
    hub = open_hub()
    _dropped(tmp_path / "a")
    hub.load_adapter(tmp_path / "a", "a")
    pairs = 4 * RANK * ((64 + 64) + (64 + 128))
    assert hub.memory().shared == pairs
    assert hub.memory().adapters["a@1"] == 4 * RANK * (64 + 64)
    tensors = load_file(tmp_path / "a" / "adapter.safetensors")
    tensors[f"{Q[0]}.lora_A.weight"] += 1
    write_folder(
        tmp_path / "b", "lora_drop", tensors, json.loads((tmp_path / "a" / "adapter.json").read_text(encoding="utf-8"))
    )
    hub.load_adapter(tmp_path / "b", "b")
    assert hub.memory().shared == pairs


@pytest.mark.parametrize(
    ("make", "change", "error", "said"),
    [
        (_dropped, lambda t: t.pop("shared.q.lora_B.weight"), CorruptFile, "shared.q.lora_B.weight is missing"),
        (_dropped, lambda t: t.pop(f"{Q[0]}.lora_B.weight"), CorruptFile, "lora_B.weight is missing"),
        (_dropped, lambda t: t.update({f"{Q[1]}.lora_A.weight": torch.ones(RANK, 64)}), CorruptFile, "missing"),
        (_dropped, lambda t: t.update({"shared.q.lora_A.weight": torch.ones(3, 64)}), ShapeMismatch, "no product"),
        (CASES["delta_lora-pair"], lambda t: t.pop(f"{Q[0]}.delta_B"), CorruptFile, "delta_B is missing"),
        (CASES["delta_lora-signs"], lambda t: t.pop(f"{Q[0]}.delta_scale"), CorruptFile, "delta_scale is missing"),
        (
            CASES["delta_lora-signs"],
            lambda t: t.update({f"{Q[0]}.delta_signs": t[f"{Q[0]}.delta_signs"][:, :-1].contiguous()}),
            ShapeMismatch,
            "signs",
        ),
        (
            CASES["delta_lora-dense"],
            lambda t: t.update({f"{Q[0]}.delta_A": torch.ones(1, 64), f"{Q[0]}.delta_B": torch.ones(64, 1)}),
            CorruptFile,
            "in two ways",
        ),
        (
            _embedding,
            lambda t: t.update({"model.norm.delta_weight": torch.ones(64, 64)}),
            UnsupportedFeature,
            "model.norm",
        ),
        (_embedding, lambda t: t.update({"model.nowhere.delta_weight": torch.ones(64, 64)}), AdapterError, "nowhere"),
    ],
)
def test_damaged_tensors_are_refused(make, change, error, said, open_hub, tmp_path):
    make(tmp_path / "a")
    tensors = load_file(tmp_path / "a" / "adapter.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "a" / "adapter.safetensors")
    with pytest.raises(error, match=said):
        open_hub().register("a", tmp_path / "a")


@pytest.mark.parametrize(
    ("make", "field", "value"),
    [
        (_dropped, "lora_alpha", "six"),
        (_dropped, "shared", ["q"]),
        (_dropped, "shared", {"q": "model.layers.1"}),
        (_dropped, "a_field_of_tomorrow", 1),
        (_dropped, "format_version", 2),
        (CASES["delta_lora-dense"], "lora_alpha", None),
        (CASES["delta_lora-dense"], "a_field_of_tomorrow", 1),
        (_embedding, "a_field_of_tomorrow", 1),
    ],
)
def test_fields_that_are_not_understood_are_refused(make, field, value, open_hub, tmp_path):
    make(tmp_path / "a")
    path = tmp_path / "a" / "adapter.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(UnsupportedFeature, match=field):
        open_hub().register("a", tmp_path / "a")


def test_a_lossy_change_is_told_with_its_error(open_hub, tmp_path):
    _embedding(tmp_path / "a")
    assert "relative error of 0.1" in open_hub().register("a", tmp_path / "a").warnings[0]
