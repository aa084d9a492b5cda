"""The bases and adapters that the tools' files here were made for: tiny, and the same on every machine and version.

``python -m tests.plugins.tool_files.base FOLDER`` writes the bases for the scripts beside this file.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    GemmaConfig,
    Glm4Config,
    GlmConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PhiConfig,
    Qwen2Config,
    Qwen3Config,
)

from adapter_hub.testing import VOCABULARY, tiny_tokenizer

_SMALL = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
_LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
}
_HEADS = {**_LLAMA, "head_dim": 8}
CONFIGS = {
    "llama": lambda: LlamaConfig(**_SMALL, **_LLAMA),
    "mistral": lambda: MistralConfig(**_SMALL, **_HEADS),
    "qwen2": lambda: Qwen2Config(**_SMALL, **_LLAMA),
    "qwen3": lambda: Qwen3Config(**_SMALL, **_HEADS),
    "gemma": lambda: GemmaConfig(**_SMALL, **_HEADS),
    "gemma2": lambda: Gemma2Config(**_SMALL, **_HEADS),
    "phi": lambda: PhiConfig(**_SMALL, **_LLAMA),
    "phi3": lambda: Phi3Config(**_SMALL, **_LLAMA),
    "glm": lambda: GlmConfig(**_SMALL, **_HEADS),
    "glm4": lambda: Glm4Config(**_SMALL, **_HEADS),
    "bloom": lambda: BloomConfig(**_SMALL, hidden_size=32, n_layer=2, n_head=4),
    "gpt_neox": lambda: GPTNeoXConfig(
        **_SMALL, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
    ),
    "gpt2": lambda: GPT2Config(**_SMALL, n_embd=32, n_layer=2, n_head=4, n_positions=64),
}
IDS = [[5, 17, 60, 9, 88, 31, 5, 44]]


def save_drawn_base(folder: Path, kind: str) -> Path:
    """A base whose weights follow from their names, by NumPy's frozen generator."""
    model = AutoModelForCausalLM.from_config(CONFIGS[kind]())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_norm = parameter.dim() == 1 and "bias" not in name
            parameter.copy_(0.15 * _drawn(name, parameter) + float(is_norm))
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def save_drawn_adapter(base: Path, folder: Path, **fields: Any) -> Path:
    """A LoRA for such a base, drawn in the same way and written by PEFT."""
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(**fields))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(0.2 * _drawn(name, parameter))
    model.save_pretrained(folder)
    return folder


def _drawn(name: str, like: torch.Tensor) -> torch.Tensor:
    drawn = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(like.shape)
    return torch.from_numpy(drawn).to(like.dtype)


if __name__ == "__main__":
    for one in CONFIGS:
        save_drawn_base(Path(sys.argv[1]) / one, one)
