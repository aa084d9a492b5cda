"""Writes the file in kohya's style here, with diffusers' exporter: ``python make_kohya.py BASES OUT``.

By diffusers 0.42.1, from an adapter that PEFT saved.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from diffusers.utils import convert_state_dict_to_kohya
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

IDS = torch.tensor([[5, 17, 60, 9, 88, 31, 5, 44]])


def main(bases: Path, out: Path) -> None:
    (out / "expected").mkdir(parents=True, exist_ok=True)
    torch.manual_seed(6)
    # diffusers writes the rank as alpha, whatever alpha was: only with the two equal is the file the same adapter.
    config = LoraConfig(r=2, lora_alpha=2, target_modules=["q_proj", "k_proj", "down_proj"])
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(bases / "llama"), config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained("peft-out")
    tensors = convert_state_dict_to_kohya(load_file("peft-out/adapter_model.safetensors"))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, out / "kohya.safetensors")
    with torch.inference_mode():
        save_file({"logits": model(IDS).logits.contiguous()}, out / "expected" / "kohya.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
