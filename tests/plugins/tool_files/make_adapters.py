"""Writes the folders of AdapterHub's library here: ``python make_adapters.py BASES OUT``, by adapters 1.3.0.

Weights are drawn; models and writer are the library's.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import adapters
import torch
from adapters import IA3Config, LoRAConfig
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

IDS = torch.tensor([[5, 17, 60, 9, 88, 31, 5, 44]])
CASES: dict[str, tuple[str, Any, bool]] = {
    "adapters-lora": ("llama", LoRAConfig(r=2, alpha=6, attn_matrices=["q", "k", "v"], intermediate_lora=True), True),
    "adapters-dora": ("llama", LoRAConfig(r=2, alpha=6, use_dora=True, output_lora=True), False),
    "adapters-ia3": ("llama", IA3Config(), True),
    "adapters-gpt2": ("gpt2", LoRAConfig(r=2, alpha=6, intermediate_lora=True, output_lora=True), True),
}


def main(bases: Path, out: Path) -> None:
    (out / "expected").mkdir(parents=True, exist_ok=True)
    for name, (base, config, safe) in CASES.items():
        model = AutoModelForCausalLM.from_pretrained(bases / base, attn_implementation="eager").eval()
        bare = logits(model)
        adapters.init(model)
        model.add_adapter("tiny", config=config)
        model.set_active_adapters("tiny")
        torch.manual_seed(4)
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if ".loras.tiny." in key:
                    parameter.add_(0.2 * torch.randn_like(parameter))
        model.save_adapter(str(out / name), "tiny", use_safetensors=safe, with_head=False)
        found = logits(model)
        save_file({"logits": found}, out / "expected" / f"{name}.safetensors")
        print(name, "moves the logits by", (found - bare).abs().max().item())


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(IDS).logits.contiguous()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
