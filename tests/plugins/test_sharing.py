"""What many adapters have in common is kept once: VeRA's projections, LoRA-FA's frozen A."""

from __future__ import annotations

import gc

import pytest
import torch
from peft import FourierFTConfig, LoraConfig, MissConfig, RandLoraConfig, VeraConfig, get_peft_model
from peft.optimizers import create_lorafa_optimizer
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM as Auto

from adapter_hub.testing import logits, random_ids

from ..models import peft_logits, save_adapter

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
WEIGHTS = "adapter_model.safetensors"
ONE_A = 4 * 4 * 2 * (6 * 64 + 128)  # rank 4 in float32, two layers of seven linears, of which one reads 128 inputs


def test_a_thousand_vera_adapters_cost_their_vectors_and_one_pair_of_projections(bases, open_hub, tmp_path):
    hub = open_hub()
    folder = save_adapter(bases(), tmp_path / "vera", VeraConfig(r=8, target_modules=["q_proj", "down_proj"]))
    hub.load_adapter(folder, "v0")
    pair = 4 * (8 * 128 + 64 * 8)
    vectors = 4 * 2 * (2 * 8 + 64 + 64)
    assert hub.memory().shared == pair
    assert hub.memory().adapters["v0@1"] == vectors
    tensors = load_file(folder / WEIGHTS)
    for k in range(1, 1000):
        changed = {name: t if "vera_lambda" not in name else t * (1 + k / 1000) for name, t in tensors.items()}
        save_file(changed, folder / WEIGHTS)
        hub.load_adapter(folder, f"v{k}")
    assert hub.memory().shared == pair
    assert sum(hub.memory().adapters.values()) == 1000 * vectors
    gc.collect()
    wide = [thing for thing in gc.get_objects() if type(thing) is torch.Tensor and thing.shape == (8, 128)]
    assert len({tensor.untyped_storage().data_ptr() for tensor in wide}) <= 2  # the kept A, and this test's own
    hub.unload("v0")
    assert hub.memory().shared == pair
    hub.unload()
    assert hub.memory().shared == 0


def _bytes_of(folder):
    """Bytes of an adapter's own tensors in its file."""
    return sum(
        t.nbytes for key, t in load_file(folder / WEIGHTS).items() if not key.endswith(("randlora_A", "randlora_B"))
    )


SHARED = {
    # Random bases of rank 6: A [6, 1, 128] and B [128, 22, 6]; the file has copies of them at every module.
    "randlora": (RandLoraConfig, {"r": 6}, 4 * (6 * 128 + 128 * 22 * 6)),
    "randlora-drawn": (RandLoraConfig, {"r": 6, "save_projection": False}, 4 * (6 * 128 + 128 * 22 * 6)),
    # Places [50] by row and by column for each of four shapes of weights.
    "fourierft": (FourierFTConfig, {"n_frequency": 50}, 4 * 2 * 50 * 4),
    # The matrix that sums runs of 8 inputs, for 64 inputs and for 128.
    "miss": (MissConfig, {"r": 8}, 4 * 8 * (64 + 128)),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", SHARED)
def test_many_adapters_of_a_type_cost_their_own_tensors_and_what_they_share_once(kind, bases, open_hub, tmp_path):
    make, fields, shared = SHARED[kind]
    hub = open_hub()
    for seed in range(3):
        folder = save_adapter(bases(), tmp_path / f"a{seed}", make(target_modules=ALL, **fields), seed=seed)
        hub.load_adapter(folder, f"a{seed}")
        assert hub.memory().shared == shared
    assert set(hub.memory().adapters.values()) == {_bytes_of(folder)}
    hub.unload("a1")
    assert hub.memory().shared == shared
    hub.unload()
    assert hub.memory().shared == 0


def _train_b_alone(base, folder, seed):
    """LoRA-FA by PEFT's own optimiser: A starts from one seed and stays there."""
    torch.manual_seed(0)
    model = get_peft_model(Auto.from_pretrained(base), LoraConfig(r=4, lora_alpha=8, target_modules=ALL))
    optimizer = create_lorafa_optimizer(model=model, r=4, lora_alpha=8, lr=0.05)
    ids = random_ids(2, seed=seed)
    for _ in range(2):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    return folder


def test_a_hundred_lora_fa_adapters_from_one_seed_cost_one_a(bases, open_hub, ids, tmp_path):
    hub = open_hub()
    first, second = (_train_b_alone(bases(), tmp_path / f"fa{seed}", seed) for seed in (1, 2))
    hub.load_adapter(first, "fa1")
    assert hub.memory().shared == ONE_A
    hub.load_adapter(second, "fa2")
    tensors = load_file(first / WEIGHTS)
    for k in range(3, 101):
        changed = {name: t * (1 + k / 100) if "lora_B" in name else t for name, t in tensors.items()}
        save_file(changed, second / WEIGHTS)
        hub.load_adapter(second, f"fa{k}")
    assert hub.memory().shared == ONE_A
    own = 4 * 4 * 2 * (3 * 64 + 2 * 32 + 2 * 128)
    assert set(hub.memory().adapters.values()) == {own}
    torch.testing.assert_close(logits(hub, ["fa1"], ids), peft_logits(bases(), first, ids), atol=1e-4, rtol=0)
    hub.unload("fa1")
    assert hub.memory().shared == ONE_A
    hub.unload()
    assert hub.memory().shared == 0


@pytest.mark.parametrize("rounded", [torch.float32, torch.bfloat16, torch.float16])
def test_the_start_is_known_in_16_bit_as_well(rounded, bases, open_hub, tmp_path):
    folder = _train_b_alone(bases(), tmp_path / "fa", 1)
    save_file({name: t.to(rounded) for name, t in load_file(folder / WEIGHTS).items()}, folder / WEIGHTS)
    hub = open_hub()
    hub.load_adapter(folder, "fa")
    assert hub.memory().shared == ONE_A * rounded.itemsize // 4


def test_a_trained_a_is_its_adapters_own(bases, open_hub, tmp_path):
    hub = open_hub()
    hub.load_adapter(save_adapter(bases(), tmp_path / "a", LoraConfig(r=4, target_modules=ALL)), "a")
    assert hub.memory().shared == 0


@pytest.mark.parametrize("rounded", [torch.float32, torch.bfloat16])
def test_a_load_within_inference_mode_is_as_any_other(rounded, bases, open_hub, ids, tmp_path):
    folder = _train_b_alone(bases(), tmp_path / "fa", 1)
    save_file({name: t.to(rounded) for name, t in load_file(folder / WEIGHTS).items()}, folder / WEIGHTS)
    hub = open_hub()
    with torch.inference_mode():
        hub.load_adapter(folder, "fa")
    assert hub.memory().shared == ONE_A * rounded.itemsize // 4
    with hub.rows(["fa"]):
        embedded = hub.model.get_input_embeddings()(ids).requires_grad_()
        found = hub.model(inputs_embeds=embedded).logits
    found.sum().backward()  # which tensors of inference mode would forbid
    torch.testing.assert_close(found.detach(), peft_logits(bases(), folder, ids), atol=1e-4, rtol=0)
