"""The rest of PEFT's types against PEFT in float32, alone and with everybody in one batch."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from peft import (
    BOFTConfig,
    C3AConfig,
    FourierFTConfig,
    HRAConfig,
    LNTuningConfig,
    LoHaConfig,
    LoKrConfig,
    MissConfig,
    OFTConfig,
    RandLoraConfig,
    RoadConfig,
    ShiraConfig,
    VBLoRAConfig,
    get_peft_model,
)
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM as Auto

from adapter_hub.errors import CorruptFile, NotFinite, ShapeMismatch, UnsupportedFeature

from ..models import peft_logits, peft_text, save_adapter, served

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CONV1D = ["c_attn", "c_fc", "mlp.c_proj"]
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PATTERNS = {"rank_pattern": {"q_proj": 2, "down_proj": 6}, "alpha_pattern": {"up_proj": 40, ".*layers.1.*q_proj": 5}}
BANK = {"vector_length": 32, "num_vectors": 20}

# By name of the variant and what is special about the case: base, PEFT's type, its settings.
CASES = {
    "loha": ("llama", LoHaConfig, {"r": 4, "alpha": 6}),
    "loha-patterns": ("llama", LoHaConfig, {"r": 4, "alpha": 6, **PATTERNS}),
    "loha-base-bias": ("qwen2", LoHaConfig, {"r": 8, "alpha": 1}),
    "lokr": ("llama", LoKrConfig, {"r": 2, "alpha": 3}),
    "lokr-both": ("llama", LoKrConfig, {"r": 2, "alpha": 3, "decompose_both": True}),
    "lokr-whole": ("llama", LoKrConfig, {"r": 64, "alpha": 30}),
    "lokr-factor": ("llama", LoKrConfig, {"r": 3, "alpha": 5, "decompose_factor": 4}),
    "lokr-patterns": ("qwen2", LoKrConfig, {"r": 16, "alpha": 6, **PATTERNS}),
    "oft": ("llama", OFTConfig, {"oft_block_size": 16}),
    "oft-rank": ("llama", OFTConfig, {"r": 8, "oft_block_size": 0, "use_cayley_neumann": False}),
    "oft-exact": ("llama", OFTConfig, {"oft_block_size": 8, "use_cayley_neumann": False}),
    "oft-shared": ("llama", OFTConfig, {"oft_block_size": 16, "block_share": True, "coft": True, "eps": 0.5}),
    "oft-coft": ("llama", OFTConfig, {"oft_block_size": 32, "coft": True, "eps": 2.0}),
    **{
        f"oft-{terms}-terms": (
            "llama",
            OFTConfig,
            {"oft_block_size": 4, "num_cayley_neumann_terms": terms, "target_modules": ["q_proj", "down_proj"]},
        )
        for terms in (2, 3, 4, 6)
    },
    "oft-one-block": ("llama", OFTConfig, {"r": 1, "oft_block_size": 0, "target_modules": ["q_proj"]}),
    "oft-bias": ("qwen2", OFTConfig, {"oft_block_size": 16, "bias": "all"}),
    "oft-embedding": ("llama", OFTConfig, {"oft_block_size": 16, "target_modules": ["embed_tokens", "q_proj"]}),
    "oft-embedding-tied": ("llama-tied", OFTConfig, {"oft_block_size": 16, "target_modules": ["embed_tokens"]}),
    "boft": ("llama", BOFTConfig, {"boft_block_size": 8}),
    "boft-number": ("llama", BOFTConfig, {"boft_block_num": 4, "boft_block_size": 0}),
    "boft-bias": ("qwen2", BOFTConfig, {"boft_block_size": 4, "bias": "boft_only"}),
    "hra": ("llama", HRAConfig, {"r": 4}),
    "hra-orthogonal": ("llama", HRAConfig, {"r": 5, "apply_GS": True}),
    "hra-bias": ("qwen2", HRAConfig, {"r": 3, "bias": "hra_only"}),
    "road": ("llama", RoadConfig, {"group_size": 16}),
    "road-2": ("llama", RoadConfig, {"group_size": 8, "variant": "road_2"}),
    "road-4": ("qwen2", RoadConfig, {"group_size": 32, "variant": "road_4"}),
    "miss": ("llama", MissConfig, {"r": 8}),
    "miss-ragged": ("llama", MissConfig, {"r": 7, "bias": "none"}),
    "miss-mini": ("qwen2", MissConfig, {"r": 8, "mini_r": 4, "init_weights": "mini", "bias": "all"}),
    "miss-bat": ("qwen2", MissConfig, {"r": 8, "init_weights": "bat", "bias": "miss_only"}),
    "shira": ("llama", ShiraConfig, {"r": 4}),
    "shira-seeded": ("qwen2", ShiraConfig, {"r": 8, "random_seed": 3}),
    "c3a": ("llama", C3AConfig, {"block_size": 16}),
    "c3a-pattern": ("qwen2", C3AConfig, {"block_size": 32, "block_size_pattern": {"up_proj": 1}, "bias": "c3a_only"}),
    "fourierft": ("llama", FourierFTConfig, {"n_frequency": 50, "scaling": 20.0}),
    "fourierft-pattern": (
        "qwen2",
        FourierFTConfig,
        {"n_frequency": 30, "n_frequency_pattern": {"v_proj": 2048}, "random_loc_seed": 5, "scaling": 6.0},
    ),
    "fourierft-conv1d": ("gpt2", FourierFTConfig, {"n_frequency": 50, "scaling": 60.0, "target_modules": CONV1D}),
    "vblora": ("llama", VBLoRAConfig, {"r": 3, "topk": 2, **BANK}),
    "vblora-topk": ("llama", VBLoRAConfig, {"r": 3, "topk": 3, "save_only_topk_weights": True, **BANK}),
    "vblora-one": ("qwen2", VBLoRAConfig, {"topk": 1, "save_only_topk_weights": True, "bias": "all", **BANK}),
    "vblora-conv1d": ("gpt2", VBLoRAConfig, {"r": 2, "target_modules": CONV1D, **BANK}),
    "randlora": ("llama", RandLoraConfig, {"r": 6}),
    "randlora-sparse": ("llama", RandLoraConfig, {"r": 8, "sparse": True, "randlora_alpha": 32}),
    "randlora-drawn": ("llama", RandLoraConfig, {"r": 6, "save_projection": False, "projection_prng_key": 4}),
    "randlora-drawn-sparse": ("qwen2", RandLoraConfig, {"r": 5, "save_projection": False, "sparse": True}),
    "randlora-drawn-very-sparse": ("llama", RandLoraConfig, {"r": 4, "save_projection": False, "very_sparse": True}),
    "randlora-bias": ("qwen2", RandLoraConfig, {"r": 6, "bias": "randlora_only"}),
    "randlora-conv1d": ("gpt2", RandLoraConfig, {"r": 6, "target_modules": CONV1D}),
    "ln-tuning": ("llama", LNTuningConfig, {"target_modules": ["input_layernorm", "norm"]}),
    "ln-tuning-bias": ("gpt2", LNTuningConfig, {"target_modules": ["ln_1", "ln_f"]}),
}
# Steps from where PEFT starts, at which every type shows in the logits and changes no weight by much more than its own
# norm: beyond that, attention saturates and magnifies whatever is lost in the last bits, PEFT's as well as the hub's.
SIZES = {
    "boft": 0.3,
    "c3a": 1.0,
    "fourierft": 0.5,
    "loha": 0.35,
    "loha-patterns": 0.2,
    "miss": 0.1,
    "miss-bat": 0.05,
    "oft-one-block": 0.03,
    "randlora": 0.006,
    "randlora-drawn-sparse": 0.004,
    "randlora-drawn-very-sparse": 0.004,
    "randlora-sparse": 0.02,
    "shira": 0.3,
}
# PEFT warns of what it does not save, and of what it changes in a config.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")


def make_case(case, base, folder, seed=1):
    """An adapter of a case, written by PEFT."""
    _, kind, fields = CASES[case]
    name = case.split("-")[0]
    size = SIZES.get(case, SIZES.get(name, 0.2))
    return save_adapter(base, folder, kind(**{"target_modules": ALL, **fields}), seed=seed, size=size)


@pytest.fixture
def make(bases, tmp_path):
    def make(case: str):
        kind = CASES[case][0]
        return kind, make_case(case, bases(kind), tmp_path / case)

    return make


@pytest.mark.parametrize("case", CASES)
def test_logits_and_greedy_text_equal_peft(case, make, bases, open_hub, ids):
    kind, adapter = make(case)
    hub = open_hub(kind)
    name = hub.load_adapter(adapter, "a").variant
    assert case.startswith(name)
    bare = hub.model(ids).logits
    logits, text = served(hub, "a", ids, 16)
    expected = peft_logits(bases(kind), adapter, ids)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    assert (expected - bare).abs().max() > 0.05
    assert torch.equal(text, peft_text(bases(kind), adapter, ids, 16))
    hub.unload()
    assert torch.equal(hub.model(ids).logits, bare)


@pytest.mark.parametrize("case", [case for case in CASES if "-" not in case or case in ("miss-bat", "ln-tuning")])
def test_over_four_bit_weights_it_is_what_peft_makes_of_them_dequantised(case, make, bases, open_hub, ids, tmp_path):
    # PEFT itself refuses HRA, LoHa and LoKr there.
    kind, adapter = make(case)
    hub = open_hub(kind, quantization="nf4", dtype="float32")
    dense = tmp_path / "dense"
    shutil.copytree(bases(kind), dense)
    weights = load_file(dense / "model.safetensors")
    for path, site in hub.base.sites.items():
        if site.kind == "linear" and hub.base.parameter(path, "weight").dtype == torch.uint8:
            weights[f"{path}.weight"] = hub.base.dense_weight(path)
    save_file(weights, dense / "model.safetensors", metadata={"format": "pt"})
    hub.load_adapter(adapter, "a", allow_base_mismatch=True)
    with hub.rows(["a"]):
        torch.testing.assert_close(hub.model(ids).logits, peft_logits(dense, adapter, ids), atol=1e-3, rtol=0)


@pytest.mark.parametrize("fields", [{"boft_block_size": 4}, {"boft_block_size": 0, "boft_block_num": 8}])
@pytest.mark.parametrize("factors", [2, 3])
def test_boft_with_butterflies_equals_peft_with_its_extension(
    fields, factors, bases, open_hub, ids, tmp_path, monkeypatch
):
    """PEFT builds block-diagonal matrices in CUDA and takes one factor without; here the same is done in torch."""

    class Extension:
        @staticmethod
        def forward(blocks):
            return [torch.stack([torch.block_diag(*factor) for factor in blocks])]

    monkeypatch.setattr("peft.tuners.boft.layer.get_fbd_cuda", lambda: Extension)
    config = BOFTConfig(target_modules=ALL, boft_n_butterfly_factor=factors, **fields)
    adapter = save_adapter(bases(), tmp_path / "boft", config, size=0.3)
    hub = open_hub()
    hub.load_adapter(adapter, "a")
    with hub.rows(["a"]):
        torch.testing.assert_close(hub.model(ids).logits, peft_logits(bases(), adapter, ids), atol=1e-4, rtol=0)


@pytest.mark.parametrize("init_weights", [True, "bat"])
def test_bone_is_miss_under_another_name(init_weights, bases, open_hub, ids, tmp_path):
    """PEFT has it no more: the same tensors as MiSS, renamed."""
    config = MissConfig(target_modules=ALL, r=8, init_weights=init_weights)
    adapter = save_adapter(bases(), tmp_path / "miss", config, size=0.05)
    expected = peft_logits(bases(), adapter, ids)
    tensors = load_file(adapter / WEIGHTS)
    save_file({name.replace("miss_block", "bone_block"): t for name, t in tensors.items()}, adapter / WEIGHTS)
    fields = {"peft_type": "BONE", "r": 8, "init_weights": init_weights, "target_modules": ALL}
    (adapter / CONFIG).write_text(json.dumps(fields))
    hub = open_hub()
    assert hub.load_adapter(adapter, "a").variant == "bone"
    with hub.rows(["a"]):
        torch.testing.assert_close(hub.model(ids).logits, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("case", "field", "value"),
    [
        *((case, "a_setting_of_tomorrow", 1) for case in CASES if "-" not in case),
        ("ln-tuning", "a_setting_of_tomorrow", 1),
        ("loha", "alpha", None),
        ("lokr", "alpha", "much"),
        ("lokr-whole", "r", None),
        ("lokr-whole", "r", 2.5),
        ("loha", "alpha_pattern", {"(q_proj": 2}),
        ("oft", "num_cayley_neumann_terms", 10**9),
        ("oft", "num_cayley_neumann_terms", 2.5),
        ("oft-coft", "eps", -1.0),
        ("road", "group_size", 3),
        ("road", "group_size", "64"),
        ("road", "variant", "road_3"),
        ("vblora", "topk", 0),
        ("vblora", "topk", None),
        ("fourierft", "scaling", None),
        ("fourierft", "random_loc_seed", None),
        ("randlora", "randlora_alpha", None),
        ("randlora-drawn", "r", 5),
        ("randlora-drawn", "projection_prng_key", None),
    ],
)
def test_settings_without_which_it_would_be_wrong_are_refused(case, field, value, make, open_hub):
    kind, adapter = make(case)
    config = json.loads((adapter / CONFIG).read_text())
    (adapter / CONFIG).write_text(json.dumps({**config, field: value}))
    with pytest.raises(UnsupportedFeature, match=field):
        open_hub(kind).register("a", adapter)


@pytest.mark.parametrize(
    ("case", "part", "change", "error", "said"),
    [
        ("loha", "hada_w2_a", None, CorruptFile, "hada_w2_a is missing"),
        ("loha", "hada_w1_a", lambda t: t[:, :0], ShapeMismatch, "hada_w1_a .* none of them 0"),
        ("lokr", "lokr_w2_b", None, CorruptFile, "lokr_w2_b is missing"),
        ("lokr-whole", "lokr_w1", lambda t: t[:-1], ShapeMismatch, "make a weight of"),
        ("oft", "oft_R", lambda t: t[:-1], ShapeMismatch, "makes no blocks"),
        ("oft", "oft_R", lambda t: t[:, :-1], ShapeMismatch, "makes no blocks"),
        ("oft-exact", "oft_R", lambda t: t * float("inf"), NotFinite, "NaN or infinite|too large"),
        ("boft", "boft_s", None, CorruptFile, "boft_s is missing"),
        ("boft", "boft_R", lambda t: t.repeat(6, 1, 1, 1), ShapeMismatch, "makes no rotation"),
        ("hra", "hra_u", lambda t: t * 0, NotFinite, "no length"),
        ("road", "road_alpha", lambda t: t[:-1], ShapeMismatch, "road_alpha"),
        ("miss-mini", "miss_block", lambda t: t[:, :3], ShapeMismatch, "do not divide"),
        ("miss-bat", "miss_block", lambda t: t[:-1], ShapeMismatch, "no blocks of a weight"),
        ("shira", "shira_indices", lambda t: t + 1000, ShapeMismatch, "does not name"),
        ("shira", "shira_indices", lambda t: t - 1, ShapeMismatch, "does not name"),
        ("shira", "shira_indices", lambda t: t + 0.5, UnsupportedFeature, "whole numbers"),
        ("c3a", "c3a_kernel", lambda t: t[:, :, :-1], ShapeMismatch, "no blocks of a weight"),
        ("fourierft", "fourierft_spectrum", lambda t: t.repeat(200), ShapeMismatch, "10000 coefficients"),
        ("vblora", "vblora_vector_bank", None, CorruptFile, "vblora_vector_bank is missing"),
        ("vblora", "vblora_vector_bank", lambda t: t[:1], ShapeMismatch, "no bank of 2 vectors"),
        ("vblora-topk", "logits_B_topk_indices", lambda t: t + 100, ShapeMismatch, "is no mixtures of 3"),
        ("vblora-topk", "logits_A_topk_weights", lambda t: t + 1, NotFinite, "NaN"),
        ("randlora", "base_model.randlora_A", lambda t: t + 1, CorruptFile, "not the same everywhere"),
        ("randlora", "randlora_gamma", lambda t: t[:, :-1], ShapeMismatch, "randlora_gamma"),
        ("randlora", "randlora_lambda", lambda t: t[:-1], ShapeMismatch, "for bases"),
        ("randlora-drawn", "mlp.down_proj", None, CorruptFile, "'down_proj' of target_modules"),
        ("ln-tuning", "norm.ln_tuning_layers", lambda t: t[:-1], ShapeMismatch, "the base asks for"),
    ],
)
def test_damaged_files_are_refused(case, part, change, error, said, make, open_hub):
    """The change is made to the first tensor of that name, or all of them are left out."""
    kind, adapter = make(case)
    tensors = load_file(adapter / WEIGHTS)
    names = [name for name in tensors if part in name]
    if change is None:
        tensors = {name: t for name, t in tensors.items() if part not in name}
    else:
        tensors[names[0]] = change(tensors[names[0]]).contiguous()
    save_file(tensors, adapter / WEIGHTS)
    with pytest.raises(error, match=said):
        open_hub(kind).register("a", adapter)


@pytest.mark.parametrize(
    ("case", "version", "said"),
    [
        ("oft", "0.17.1", "before 0.18"),
        ("oft", None, "before 0.18"),
        ("oft", "0.18.0.dev0", None),
        ("oft-exact", "0.17.1", None),
        ("randlora-drawn", "0.21.2", "drawn again"),
        ("randlora", "0.21.2", None),
    ],
)
def test_what_the_file_leaves_open_is_a_warning(case, version, said, make, open_hub):
    kind, adapter = make(case)
    config = json.loads((adapter / CONFIG).read_text())
    (adapter / CONFIG).write_text(json.dumps({**config, "peft_version": version}))
    warnings = open_hub(kind).register("a", adapter).warnings
    assert len(warnings) == (said is not None)
    assert said is None or said in warnings[0]


@pytest.mark.parametrize(
    "case", ["hra", "oft", "boft", "road", "loha", "lokr", "miss", "shira", "c3a", "fourierft", "randlora"]
)
def test_an_adapter_saved_before_training_is_told(case, bases, open_hub, tmp_path):
    _, kind, fields = CASES[case]
    start = {"init_weights": True} if case in ("c3a", "fourierft") else {}
    config = kind(**{"target_modules": ALL, **fields, **start})
    get_peft_model(Auto.from_pretrained(bases()), config).save_pretrained(tmp_path / "a")
    warnings = open_hub().register("a", tmp_path / "a").warnings
    assert len(warnings) == 1
    assert "changes nothing" in warnings[0]
