"""The base that the demo's adapters are trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from adapter_hub.base.default import NAME as BASE_NAME
from adapter_hub.base.default import default_base_folder

__all__ = ["BASE_NAME", "BaseModel", "load_base"]


@dataclass(frozen=True)
class BaseModel:
    """A causal LM with its tokenizer, and the checkpoint folder that it came from."""

    model: Any
    tokenizer: Any
    folder: Path

    def prompt_ids(self, prompt: str) -> list[int]:
        """``prompt`` as the one user message of a chat, up to where the assistant speaks."""
        message = {"role": "user", "content": prompt}
        encoded = self.tokenizer.apply_chat_template([message], add_generation_prompt=True, return_dict=True)
        return list(encoded["input_ids"])


def load_base(folder: Path | None, *, quantised: bool = True, thawed_blocks: int = 0) -> BaseModel:
    """Load a checkpoint folder, by default in NF4 with double quantisation.

    It computes in bfloat16 on a GPU. Two CPU cores without AMX multiply float32 nearly twice as fast as bfloat16
    (measured: 270 against 150 GFLOP/s), and what learns is float32 anyway.

    Args:
        folder: None takes the project's default base, and fetches it if need be.
        quantised: False leaves every weight as the checkpoint has it.
        thawed_blocks: this many last blocks are left so, whatever the others are.
    """
    folder = default_base_folder() if folder is None else folder
    device, dtype = ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32)
    plan = {"quantization_config": _quantization(folder, dtype, thawed_blocks)} if quantised else {}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, device_map=device, **plan)
    model.config.use_cache = False
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            # On CPU the first forward in eval mode rearranges the packed weight for an avx512 kernel. Whoever
            # dequantises it afterwards (the backward pass, DoRA's norms) would read garbage.
            module.support_avx512bf16_for_cpu = False
    return BaseModel(model, AutoTokenizer.from_pretrained(folder), folder)


def _quantization(folder: Path, dtype: torch.dtype, thawed_blocks: int) -> BitsAndBytesConfig:
    count = AutoConfig.from_pretrained(folder).num_hidden_layers
    thawed = [f"model.layers.{k}" for k in range(count - thawed_blocks, count)]
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=["lm_head", *thawed] if thawed else None,
    )
