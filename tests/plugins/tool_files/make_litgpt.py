"""Writes the folders of LitGPT here, with its own trainer: ``python make_litgpt.py BASES OUT``, by litgpt 0.5.13."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch
from litgpt.config import Config
from litgpt.model import GPT
from litgpt.scripts.convert_hf_checkpoint import copy_weights_hf_llama
from litgpt.utils import copy_config_files, save_config
from safetensors.torch import load_file, save_file

IDS = torch.tensor([[5, 17, 60, 9, 88, 31, 5, 44]])
CONFIG = {
    "name": "tiny-llama",
    "block_size": 64,
    "vocab_size": 96,
    "padded_vocab_size": 96,
    "n_layer": 2,
    "n_head": 4,
    "n_query_groups": 2,
    "n_embd": 32,
    "intermediate_size": 48,
    "rotary_percentage": 1.0,
    "parallel_residual": False,
    "bias": False,
    "norm_class_name": "RMSNorm",
    "norm_eps": 1e-6,
    "mlp_class_name": "LLaMAMLP",
}
PARTS = "query key value projection mlp head".split()
CASES = {"litgpt-qv": ["query", "value"], "litgpt-all": PARTS}
FLAGS = """--precision 32-true --lora_r 2 --lora_alpha 6 --data JSON --data.json_path data.json
    --data.val_split_fraction 0.25 --data.num_workers 0 --train.epochs 3 --train.micro_batch_size 2
    --train.global_batch_size 4 --train.lr_warmup_steps 1 --train.max_seq_length 32 --eval.max_new_tokens 1
    --eval.max_iters 1 --out_dir litgpt-out"""
OPTIMIZER = json.dumps({"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.05}})
KEPT = ("lit_model.pth.lora", "hyperparameters.yaml", "model_config.yaml")


def main(bases: Path, out: Path) -> None:
    base, tuned = Path("checkpoints/org/tiny-llama"), Path("litgpt-out/final")
    base.mkdir(parents=True, exist_ok=True)
    weights: dict[str, torch.Tensor] = {}
    copy_weights_hf_llama(Config(**CONFIG), {}, weights, load_file(bases / "llama" / "model.safetensors"))
    torch.save(weights, base / "lit_model.pth")
    save_config(Config(**CONFIG), base)
    copy_config_files(bases / "llama", base)
    examples = [{"instruction": f"say {k}", "input": "", "output": f"hello {k} world"} for k in range(8)]
    Path("data.json").write_text(json.dumps(examples))
    for name, parts in CASES.items():
        flags = [*FLAGS.split(), "--optimizer", OPTIMIZER]
        flags += [f"--lora_{part}={str(part in parts).lower()}" for part in PARTS]
        subprocess.run([sys.executable, "-m", "litgpt", "finetune_lora", base, *flags], check=True)
        (out / name).mkdir(parents=True, exist_ok=True)
        for file in KEPT:
            (out / name / file).write_bytes((tuned / file).read_bytes())
        bare, merged = logits(weights), logits(torch.load(tuned / "lit_model.pth"))
        (tuned / "lit_model.pth").unlink()  # or it would not merge again
        (out / "expected").mkdir(exist_ok=True)
        save_file({"logits": merged}, out / "expected" / f"{name}.safetensors")
        print(name, "moves the logits by", (merged - bare).abs().max().item())


def logits(weights: dict[str, torch.Tensor]) -> torch.Tensor:
    model = GPT(Config(**CONFIG))
    model.load_state_dict(weights)
    with torch.inference_mode():
        return model(IDS).contiguous()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
