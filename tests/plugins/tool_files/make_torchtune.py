"""Writes the folders of torchtune here, with its own checkpointer: ``python make_torchtune.py BASES OUT``.

By torchtune 0.6.1, beside torchao 0.9. Weights of the adapters are drawn; its models and its writer are torchtune's.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torchtune import training
from torchtune.models.llama3 import lora_llama3
from torchtune.models.qwen2 import lora_qwen2
from torchtune.modules.peft import get_adapter_params, get_lora_module_names
from torchtune.training import FullModelHFCheckpointer

IDS = torch.tensor([[5, 17, 60, 9, 88, 31, 5, 44]])
RANK, ALPHA = 2, 6
SHAPE = {
    "vocab_size": 96,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "embed_dim": 32,
    "intermediate_dim": 48,
    "max_seq_len": 64,
    "norm_eps": 1e-6,
    "rope_base": 10000,
}
MODULES = ["q_proj", "k_proj", "v_proj", "output_proj"]
CASES: dict[str, tuple[Any, str, str, dict[str, Any], dict[str, Any]]] = {
    "torchtune-lora": (lora_llama3, "llama", "LLAMA3", {"apply_lora_to_mlp": True, "apply_lora_to_output": True}, {}),
    "torchtune-dora": (lora_llama3, "llama", "LLAMA3", {}, {"use_dora": True}),
    "torchtune-qwen2": (lora_qwen2, "qwen2", "QWEN2", {}, {}),
}


def main(bases: Path, out: Path) -> None:
    (out / "expected").mkdir(parents=True, exist_ok=True)
    for name, (build, base, model_type, applied, extra) in CASES.items():
        shutil.rmtree("tune-out", ignore_errors=True)
        checkpointer = FullModelHFCheckpointer(
            str(bases / base), ["model.safetensors"], model_type, "tune-out", safe_serialization=True
        )
        weights = checkpointer.load_checkpoint()[training.MODEL_KEY]
        model = build(MODULES, **applied, **extra, **SHAPE, lora_rank=RANK, lora_alpha=ALPHA).eval()
        model.load_state_dict(weights, strict=False)
        for module in model.modules():
            if hasattr(module, "initialize_dora_magnitude"):
                module.initialize_dora_magnitude()
        torch.manual_seed(3)
        adapter = {key: value.detach().clone() for key, value in get_adapter_params(model).items()}
        before = logits(model)
        for value in adapter.values():
            value += 0.2 * torch.randn_like(value)
        model.load_state_dict(adapter, strict=False)
        found = logits(model)
        config = {
            "r": RANK,
            "lora_alpha": ALPHA,
            "target_modules": get_lora_module_names(
                MODULES, *(applied.get(f"apply_lora_to_{x}", False) for x in ("mlp", "output"))
            ),
            "peft_type": "LORA",
        }
        checkpointer.save_checkpoint(
            {training.MODEL_KEY: {}, training.ADAPTER_KEY: adapter, training.ADAPTER_CONFIG: config},
            epoch=0,
            adapter_only=True,
        )
        (out / name).mkdir(parents=True, exist_ok=True)
        for file in ("adapter_model.pt", "adapter_model.safetensors", "adapter_config.json"):
            shutil.copyfile(Path("tune-out/epoch_0") / file, out / name / file)
        save_file({"logits": found}, out / "expected" / f"{name}.safetensors")
        print(name, "moves the logits by", (found - before).abs().max().item())


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return model(IDS).float().contiguous()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
