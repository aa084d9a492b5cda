"""Writes the GGUF files here: ``python -m tests.plugins.tool_files.make_gguf CONVERTER OUT``.

CONVERTER is the path of ``convert_lora_to_gguf.py`` in a checkout of llama.cpp; these are by the one that
llama-cpp-python 0.3.36 brings.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from .base import save_drawn_adapter, save_drawn_base

# Kind of base, modules, and type in which the converter is to write.
CASES: dict[str, tuple[str, list[str], str]] = {
    "llama": ("llama", ["q_proj", "k_proj", "down_proj", "embed_tokens", "lm_head"], "f32"),
    "llama-q8": ("llama", ["q_proj", "v_proj"], "q8_0"),
    "llama-bf16": ("llama", ["k_proj", "o_proj"], "bf16"),
    "mistral": ("mistral", ["q_proj", "k_proj"], "f32"),
    "qwen2": ("qwen2", ["q_proj", "k_proj"], "f32"),
    "qwen3": ("qwen3", ["q_proj", "k_proj"], "f32"),
    "gemma": ("gemma", ["q_proj", "k_proj"], "f32"),
    "gemma2": ("gemma2", ["q_proj", "down_proj"], "f32"),
    "phi": ("phi", ["q_proj", "dense"], "f32"),
    "phi3": ("phi3", ["qkv_proj", "gate_up_proj"], "f32"),
    "glm": ("glm", ["q_proj", "gate_up_proj"], "f32"),
    "glm4": ("glm4", ["k_proj", "gate_up_proj"], "f32"),
    "bloom": ("bloom", ["query_key_value", "dense"], "f32"),
    "gpt_neox": ("gpt_neox", ["query_key_value", "dense_h_to_4h"], "f32"),
    "gpt2": ("gpt2", ["c_attn", "c_fc"], "f32"),
}


def main(converter: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name, (kind, modules, dtype) in CASES.items():
        with tempfile.TemporaryDirectory() as scratch:
            base = save_drawn_base(Path(scratch) / "base", kind)
            adapter = save_drawn_adapter(base, Path(scratch) / "adapter", r=2, lora_alpha=6, target_modules=modules)
            card = adapter / "README.md"  # what the converter takes the base's name from
            card.write_text(card.read_text().replace(str(base), "org/tiny"))
            flags = ["--base", base, "--outtype", dtype, "--outfile", out / f"{name}.gguf"]
            done = subprocess.run([sys.executable, converter, *flags, adapter], capture_output=True, text=True)
            print(name, "written" if not done.returncode else done.stderr.strip().splitlines()[-1])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
