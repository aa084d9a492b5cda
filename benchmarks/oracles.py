"""What an adapter ought to do to the default base, told without adapter_hub's own reading of it.

PEFT where it has the variant. Else the paper's formula on a dense W: the file is read with safetensors and json alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import numpy as np
import torch
from bitsandbytes.functional import dequantize_4bit
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from adapter_hub.base.default import default_base_folder

# PEFT refuses these over 4-bit weights, or reads their packed bytes; it serves them over what those stand for.
NOT_OVER_FOUR_BIT = ("HRA", "LOHA", "LOKR")


def load_base(quantised: bool, dtype: torch.dtype) -> Any:
    """The default base; in NF4 in the layout that PEFT can read."""
    plan = {}
    if quantised:
        plan["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    model = AutoModelForCausalLM.from_pretrained(default_base_folder(), dtype=dtype, **plan).eval()
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False
    return model


def adapted(folder: Path | None, *, quantised: bool, dtype: torch.dtype = torch.float32) -> Any:
    """The model that an adapter's logits are held against; without a folder, those of the bare base."""
    if folder is None and dtype != torch.float32:
        return load_base(quantised, dtype)
    if folder is not None and (folder / "adapter_config.json").is_file():
        kind = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["peft_type"]
        if quantised and kind in NOT_OVER_FOUR_BIT and dtype == torch.float32:
            return PeftModel.from_pretrained(_dense_base(), folder).eval()
        return PeftModel.from_pretrained(load_base(quantised, dtype), folder).eval()
    # In float64: merged weights round otherwise than factors, and what is asked is whether the factors are right.
    model = (_dense_base() if quantised else load_base(False, torch.float32)).double()
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        if folder is not None:
            for name, change in changes(folder).items():
                parameters[name].add_(change)
            for name, weight in load_file(folder / "adapter.safetensors").items():
                if name in parameters:
                    parameters[name].copy_(weight)
    return model


def changes(folder: Path) -> dict[str, Tensor]:
    """The change of each weight, by the parameter's name, of an adapter in this project's own format."""
    config = json.loads((folder / "adapter.json").read_text(encoding="utf-8"))
    tensors = {
        name: t if t.dtype == torch.uint8 else t.double()
        for name, t in load_file(folder / "adapter.safetensors").items()
    }
    found: dict[str, Tensor] = {}

    def add(path: str, change: Tensor) -> None:
        found[f"{path}.weight"] = found.get(f"{path}.weight", 0) + change

    for name, tensor in tensors.items():
        path, _, end = name.rpartition(".")
        if name.endswith(".lora_A.weight"):
            path = name.removesuffix(".lora_A.weight")
            product = config["lora_alpha"] / len(tensor) * tensors[f"{path}.lora_B.weight"] @ tensor
            for site in config.get("shared", {}).get(path.removeprefix("shared."), [path]):
                add(site, product)
        elif end == "delta_weight":
            add(path, tensor)
        elif end == "delta_A":
            add(path, tensors[f"{path}.delta_B"] @ tensor)
        elif end == "delta_signs":
            bits = np.unpackbits(tensor.numpy(), axis=1, bitorder="little").astype(np.float64)
            add(path, (2 * torch.from_numpy(bits) - 1) * tensors[f"{path}.delta_scale"].unsqueeze(1))
    return found


def _dense_base() -> Any:
    """The default base in float32 with what NF4 makes of its weights."""
    model = load_base(False, torch.float32)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, weight in _dequantised().items():
            parameters[name].copy_(weight)
    return model


def _dequantised() -> Mapping[str, Tensor]:
    """Every weight of a linear as the NF4 base multiplies with it, by the parameter's name."""
    weights = {}
    for path, module in load_base(True, torch.float32).named_modules():
        if isinstance(module, bnb.nn.Linear4bit):
            weights[f"{path}.weight"] = dequantize_4bit(module.weight.data, module.weight.quant_state).float()
    return weights
