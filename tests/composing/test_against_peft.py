"""Compositions of LoRA adapters against PEFT's ``add_weighted_adapter`` in float32."""

from __future__ import annotations

import peft.tuners.lora.model as peft_lora
import pytest
import torch
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM as Auto

from adapter_hub import AdapterHub
from adapter_hub.composing.compose import site_seed

from ..models import save_adapter, served

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # PEFT on saved embeddings
SEED = 11
DENSITY = {"density": 0.6}
FREQUENCY = {"majority_sign_method": "frequency"}
# Two of one rank, with other targets and other rules of the scale; one of another rank, with patterns; two on tables.
CONFIGS = {
    "a": LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "down_proj", "lm_head"]),
    "b": LoraConfig(r=4, lora_alpha=5, use_rslora=True, target_modules=["q_proj", "up_proj", "lm_head"]),
    "c": LoraConfig(
        r=8,
        lora_alpha=4,
        target_modules=["q_proj", "up_proj"],
        rank_pattern={"up_proj": 3},
        alpha_pattern={"layers.1.self_attn.q_proj": 20},
    ),
    "e": LoraConfig(r=4, lora_alpha=6, target_modules=["embed_tokens", "v_proj"]),
    "f": LoraConfig(r=4, lora_alpha=9, target_modules=["embed_tokens", "q_proj"]),
}
FACTORS = [
    ("linear", {}),
    ("ties", DENSITY),
    ("ties", DENSITY | FREQUENCY),
    ("dare_linear", DENSITY),
    ("dare_ties", DENSITY),
    ("dare_ties", DENSITY | FREQUENCY),
    ("magnitude_prune", DENSITY),
]
WHOLE = [
    ("cat", {}),
    ("svd", {}),
    ("svd", {"rank": 3}),
    ("ties_svd", DENSITY),
    ("ties_svd", DENSITY | FREQUENCY | {"rank": 6}),
    ("dare_linear_svd", DENSITY),
    ("dare_ties_svd", DENSITY),
    ("magnitude_prune_svd", DENSITY | {"rank": 32}),
]
CASES = [
    *(({"a": 0.7, "b": 0.3}, *case) for case in FACTORS + WHOLE),
    *(({"a": 1.2, "b": -0.4}, *case) for case in FACTORS),
    *(({"a": 0.7, "c": 0.3}, *case) for case in WHOLE),
    *(({"e": 0.6, "f": 0.5}, method, DENSITY if method == "ties" else {}) for method in ("linear", "ties", "svd")),
    ({"a": 0.5, "b": 0.2, "c": 0.4, "e": -0.3}, "cat", {}),
]


@pytest.fixture(scope="module")
def folders(bases, tmp_path_factory):
    root = tmp_path_factory.mktemp("parents")
    return {name: save_adapter(bases(), root / name, config, seed=ord(name)) for name, config in CONFIGS.items()}


@pytest.fixture(scope="module")
def oracle(bases, folders):
    """PEFT with every adapter; what it draws at a site is seeded as the hub seeds it."""
    (first, folder), *others = folders.items()
    model = PeftModel.from_pretrained(Auto.from_pretrained(bases(), dtype=torch.float32), folder, adapter_name=first)
    for name, other in others:
        model.load_adapter(other, name)
    find = peft_lora._get_submodules

    def seeded(parent, key):
        torch.manual_seed(site_seed(SEED, key))
        return find(parent, key)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peft_lora, "_get_submodules", seeded)
        yield model.eval()


@pytest.fixture(scope="module")
def hub(bases, folders):
    with AdapterHub.from_pretrained(bases(), quantization=None, device="cpu") as hub:
        for name, folder in folders.items():
            hub.register(name, folder)
        yield hub


@pytest.mark.parametrize(("parents", "method", "options"), CASES)
def test_a_composition_is_pefts(parents, method, options, hub, oracle, ids, tmp_path):
    given = {"svd_rank" if name == "rank" else name: value for name, value in options.items()}
    oracle.add_weighted_adapter(list(parents), list(parents.values()), "mix", combination_type=method, **given)
    oracle.set_adapter("mix")
    with torch.inference_mode():
        expected = oracle(ids).logits
    oracle.set_adapter("a")
    oracle.delete_adapter("mix")
    info = hub.compose("mix", parents, method, seed=SEED, folder=tmp_path / "mix", **options)
    try:
        logits, _ = served(hub, "mix", ids, 1)
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
        assert (logits - hub.model(ids).logits).abs().max() > 0.05
        if "rank" in options:
            assert max(info.ranks) <= options["rank"]
    finally:
        hub.remove("mix")
