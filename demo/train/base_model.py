"""The frozen NF4 base that the demo's adapters are trained on and measured against."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from adapter_hub.base.default import NAME as BASE_NAME
from adapter_hub.base.default import default_base_folder

__all__ = ["BASE_NAME", "BaseModel", "load_base"]


@dataclass(frozen=True)
class BaseModel:
    """A quantised causal LM with its tokenizer."""

    model: Any
    tokenizer: Any

    def prompt_ids(self, prompt: str) -> list[int]:
        """``prompt`` as the one user message of a chat, up to where the assistant speaks."""
        message = {"role": "user", "content": prompt}
        encoded = self.tokenizer.apply_chat_template([message], add_generation_prompt=True, return_dict=True)
        return list(encoded["input_ids"])


def load_base(folder: Path | None, dtype: torch.dtype) -> BaseModel:
    """Load a checkpoint folder in NF4 with double quantisation, computing in ``dtype``.

    ``folder=None`` takes the project's default base, and fetches it if need be.
    """
    folder = default_base_folder() if folder is None else folder
    device = "cuda" if torch.cuda.is_available() else "cpu"
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    model = AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=quantization, dtype=dtype, device_map=device
    )
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            # On CPU the first forward in eval mode rearranges the packed weight for an avx512 kernel. Whoever
            # dequantises it afterwards (the backward pass, DoRA's norms) would read garbage.
            module.support_avx512bf16_for_cpu = False
    return BaseModel(model, AutoTokenizer.from_pretrained(folder))
