"""Writes further folders of LitGPT here, of models drawn instead of trained: ``python make_litgpt_drawn.py BASES OUT``.

By litgpt 0.5.13 for ``litgpt-phi3`` and ``litgpt-gpt_neox``, and by 0.4.13, whose attention has another name and
another order of rows, for ``litgpt-old``.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from litgpt.lora import GPT, Config
from litgpt.scripts import convert_hf_checkpoint as convert
from safetensors.torch import load_file, save_file

IDS = torch.tensor([[5, 17, 60, 9, 88, 31, 5, 44]])
TINY = {
    "block_size": 64,
    "vocab_size": 96,
    "padded_vocab_size": 96,
    "n_layer": 2,
    "n_head": 4,
    "n_embd": 32,
    "intermediate_size": 48,
}
LLAMA = {
    "n_query_groups": 2,
    "rotary_percentage": 1.0,
    "parallel_residual": False,
    "bias": False,
    "norm_class_name": "RMSNorm",
    "norm_eps": 1e-6,
    "mlp_class_name": "LLaMAMLP",
}
NEW: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "litgpt-phi3": ("phi3", convert.copy_weights_phi, {**LLAMA, "name": "Phi-3-tiny", "norm_eps": 1e-5}),
    "litgpt-gpt_neox": ("gpt_neox", convert.copy_weights_gpt_neox, {"name": "pythia-tiny"}),
}
OLD: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "litgpt-old": ("llama", convert.copy_weights_hf_llama, {**LLAMA, "name": "Llama-tiny"})
}
PARTS = "query key value projection mlp head".split()


def main(bases: Path, out: Path) -> None:
    (out / "expected").mkdir(parents=True, exist_ok=True)
    for name, (base, copy_weights, fields) in (NEW if version("litgpt") >= "0.5" else OLD).items():
        config = Config(**TINY, **fields, lora_r=2, lora_alpha=6, **{f"lora_{part}": True for part in PARTS})
        weights: dict[str, torch.Tensor] = {}
        stored = load_file(bases / base / "model.safetensors")
        extra = () if copy_weights is convert.copy_weights_gpt_neox else ({},)
        copy_weights(config, *extra, weights, stored)
        model = GPT(config).eval()
        model.load_state_dict(weights, strict=False)
        with torch.inference_mode():
            before = model(IDS)
        torch.manual_seed(7)
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if "lora_" in key:
                    parameter.copy_(0.2 * torch.randn_like(parameter))
        (out / name).mkdir(exist_ok=True)
        pairs = {key: value for key, value in model.state_dict().items() if "lora_" in key}
        torch.save({"model": pairs}, out / name / "lit_model.pth.lora")
        settings = {"checkpoint_dir": f"checkpoints/org/{base}", "lora_r": 2, "lora_alpha": 6}
        lines = [f"{key}: {value}\n" for key, value in settings.items()] + [f"lora_{part}: true\n" for part in PARTS]
        (out / name / "hyperparameters.yaml").write_text("".join(lines))
        with torch.inference_mode():
            found = model(IDS).contiguous()
        save_file({"logits": found}, out / "expected" / f"{name}.safetensors")
        print(name, "moves the logits by", (found - before).abs().max().item())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
