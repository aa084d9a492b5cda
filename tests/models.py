"""Tiny random models, a tokenizer, and PEFT adapters for them; and the oracle: PEFT alone, one row at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from transformers import AutoModelForCausalLM as Auto
from transformers import (
    BloomConfig,
    GPT2Config,
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Qwen2Config,
    Qwen3MoeConfig,
)

from adapter_hub import AdapterHub
from adapter_hub.testing import VOCABULARY, save_tiny_base

_SMALL = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
_LLAMA = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
CONFIGS: dict[str, Any] = {
    "llama": lambda: LlamaConfig(**_SMALL, **_LLAMA, tie_word_embeddings=False),
    "llama-tied": lambda: LlamaConfig(**_SMALL, **_LLAMA, tie_word_embeddings=True),
    "qwen2": lambda: Qwen2Config(**_SMALL, **_LLAMA, tie_word_embeddings=False),
    "mistral-sliding": lambda: MistralConfig(**_SMALL, **_LLAMA, sliding_window=12),
    "gpt2": lambda: GPT2Config(**_SMALL, n_embd=64, n_layer=2, n_head=4, n_positions=256),
    "mixtral": lambda: MixtralConfig(**_SMALL, **_LLAMA, num_local_experts=4, num_experts_per_tok=2),
    "qwen3-moe": lambda: Qwen3MoeConfig(
        **_SMALL, **_LLAMA, head_dim=16, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=48
    ),
    "gpt-oss": lambda: GptOssConfig(**_SMALL, **_LLAMA, head_dim=16, num_local_experts=4, num_experts_per_tok=2),
    "bloom": lambda: BloomConfig(**_SMALL, hidden_size=64, n_layer=2, n_head=4),
}


def save_base(folder: Path, kind: str = "llama") -> Path:
    """A tiny base as a checkpoint folder."""
    return save_tiny_base(folder, CONFIGS[kind]())


def save_adapter(
    base: Path, folder: Path, config: Any, seed: int = 1, *, dtype: str = "auto", size: float = 0.2
) -> Path:
    """An adapter for a base folder, written by PEFT, with every tensor of it drawn at random."""
    torch.manual_seed(seed)
    model = get_peft_model(Auto.from_pretrained(base, dtype=dtype), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * size)
                assert parameter.abs().sum() > 0, name
    model.save_pretrained(folder)
    return folder


def peft_logits(base: Path, adapter: Path | None, ids: torch.Tensor) -> torch.Tensor:
    """The oracle in float32: the adapter alone on a fresh base, nothing else in the batch."""
    model = Auto.from_pretrained(base, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    model.eval()
    with torch.inference_mode():
        return model(ids).logits


def dense_logits(base: Path, changes: Mapping[str, torch.Tensor], ids: torch.Tensor) -> torch.Tensor:
    """The oracle for what PEFT has not: the base in float32 with changes added to its parameters, by their names."""
    model = Auto.from_pretrained(base, dtype=torch.float32).eval()
    parameters = dict(model.named_parameters())
    with torch.inference_mode():
        for name, change in changes.items():
            parameters[name] += change
        return model(ids).logits


def peft_text(base: Path, adapter: Path | None, ids: torch.Tensor, new: int) -> torch.Tensor:
    """Greedy tokens of the oracle."""
    model = Auto.from_pretrained(base, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    model.eval()
    with torch.inference_mode():
        return model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False)


def served(hub: AdapterHub, name: str, ids: torch.Tensor, new: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What a hub makes of the same ids: logits, and greedy tokens, as transformers' own ``generate`` gives them."""
    with hub.rows([name]), torch.inference_mode():
        mask = torch.ones_like(ids)
        return hub.model(ids).logits, hub.model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=new, do_sample=False
        )
