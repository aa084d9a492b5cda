"""Adapters drawn at random through PEFT, for the variants that the demo has no trained adapter of."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from peft import (
    BOFTConfig,
    C3AConfig,
    FourierFTConfig,
    HRAConfig,
    IA3Config,
    LNTuningConfig,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    MissConfig,
    OFTConfig,
    PeftConfig,
    RandLoraConfig,
    RoadConfig,
    ShiraConfig,
    VBLoRAConfig,
    get_peft_model,
)
from transformers import AutoTokenizer

from adapter_hub.base.default import NAME, default_base_folder

from . import oracles

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
FEED_FORWARD = {"target_modules": ["k_proj", "v_proj", "down_proj"], "feedforward_modules": ["down_proj"]}
ANSWER = "<|im_start|>assistant\n"


def _invoked() -> LoraConfig:
    """Invoked where the assistant's turn begins."""
    tokens = AutoTokenizer.from_pretrained(default_base_folder()).encode(ANSWER)
    return LoraConfig(r=16, target_modules=ALL, alora_invocation_tokens=tokens, task_type="CAUSAL_LM")


# By title: the file's name, the settings, and the size of the steps from where PEFT starts, at which the adapter
# changes logits by a tenth or so of their norm.
KINDS: dict[str, tuple[str, Callable[[], PeftConfig], float]] = {
    "IA3 (a plugin of its own)": ("ia3", partial(IA3Config, **FEED_FORWARD), 0.02),
    "Trained tokens": (
        "tokens",
        partial(LoraConfig, r=4, target_modules=["q_proj"], trainable_token_indices=[1, 2, 198]),
        0.02,
    ),
    "LoHa": ("loha", partial(LoHaConfig, r=8, alpha=8, target_modules=ALL), 0.08),
    "LoKr": ("lokr", partial(LoKrConfig, r=8, alpha=8, target_modules=ALL), 0.03),
    "OFT": ("oft", partial(OFTConfig, oft_block_size=32, target_modules=ALL), 0.005),
    "BOFT": ("boft", partial(BOFTConfig, boft_block_size=4, target_modules=ALL), 0.02),
    "HRA": ("hra", partial(HRAConfig, r=8, target_modules=ALL), 0.02),
    "RoAd": ("road", partial(RoadConfig, variant="road_2", group_size=64, target_modules=ALL), 0.02),
    "MiSS": ("miss", partial(MissConfig, r=16, target_modules=ALL), 0.005),
    "MiSS (bat)": ("miss-bat", partial(MissConfig, r=16, init_weights="bat", target_modules=ALL), 0.005),
    "SHiRA": ("shira", partial(ShiraConfig, r=8, random_seed=1, target_modules=ALL), 0.02),
    "C3A": ("c3a", partial(C3AConfig, block_size=64, target_modules=ALL), 2.0),
    "FourierFT": ("fourierft", partial(FourierFTConfig, init_weights=True, target_modules=ALL), 0.3),
    "VB-LoRA": ("vblora", partial(VBLoRAConfig, r=4, vector_length=64, num_vectors=90, target_modules=ALL), 0.05),
    "RandLoRA": ("randlora", partial(RandLoraConfig, r=32, save_projection=False, target_modules=ALL), 0.002),
    "LN tuning": ("ln-tuning", partial(LNTuningConfig, target_modules=["input_layernorm", "norm"]), 0.02),
    "aLoRA": ("alora", _invoked, 0.03),
}


def draw_all(folder: Path) -> Iterator[tuple[str, Path]]:
    """Titles, and the folders of their adapters for the default base, below ``folder``."""
    for title, (name, make, step) in KINDS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT on projections that are not saved, and ranks that do not divide
            yield title, _draw(folder / name, make(), step)


def _draw(folder: Path, config: PeftConfig, step: float) -> Path:
    torch.manual_seed(0)
    model = get_peft_model(oracles.load_base(False, torch.float32), config)
    model.active_peft_config.base_model_name_or_path = NAME
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * step)
    model.save_pretrained(folder, save_embedding_layers=False)
    return folder
