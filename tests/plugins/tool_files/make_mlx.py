"""Writes the folders of MLX-LM here, with its own trainer: ``python make_mlx.py BASES OUT``, by mlx-lm 0.32.2."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx_lm.utils import load
from safetensors.numpy import save_file

IDS = [[5, 17, 60, 9, 88, 31, 5, 44]]
CASES = {
    "mlx-lora": ("lora", ["self_attn.q_proj", "self_attn.k_proj", "mlp.down_proj", "lm_head", "model.embed_tokens"]),
    "mlx-dora": ("dora", ["self_attn.q_proj", "mlp.up_proj"]),
}


def main(bases: Path, out: Path) -> None:
    data = Path("data")
    data.mkdir(exist_ok=True)
    for split in ("train", "valid"):
        lines = (json.dumps({"text": f"hello {k} world, this is text {k * k}"}) for k in range(8))
        (data / f"{split}.jsonl").write_text("\n".join(lines))
    for name, (kind, keys) in CASES.items():
        folder = out / name
        Path("config.yaml").write_text(
            json.dumps({"lora_parameters": {"rank": 2, "dropout": 0.0, "scale": 7.0, "keys": keys}})
        )
        flags = f"--model {bases / 'llama'} --train --data data --fine-tune-type {kind} --num-layers 2 --iters 6"
        flags += f" --batch-size 2 --learning-rate 3e-2 --max-seq-length 32 --val-batches 1 --adapter-path {folder}"
        subprocess.run([sys.executable, "-m", "mlx_lm", "lora", "-c", "config.yaml", *flags.split()], check=True)
        for step in folder.glob("0*_adapters.safetensors"):
            step.unlink()
        model, *_ = load(str(bases / "llama"), adapter_path=str(folder))
        logits = np.array(model(mx.array(IDS)).astype(mx.float32))
        (out / "expected").mkdir(exist_ok=True)
        save_file({"logits": logits}, out / "expected" / f"{name}.safetensors")
        bare, *_ = load(str(bases / "llama"))
        print(name, "moves the logits by", np.abs(logits - np.array(bare(mx.array(IDS)))).max())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
