"""Tiny random bases of every family, as folders: those that transformers has a class for, and those with own code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from transformers import (
    BloomConfig,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    Glm4Config,
    GlmConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    OPTConfig,
    Phi3Config,
    PhiConfig,
    Qwen2Config,
    Qwen3Config,
)

from adapter_hub.testing import VOCABULARY, randomise, save_tiny_base, tiny_tokenizer

from . import remote_code

_SMALL = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
_LLAMA = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
}
_HEADS = {**_LLAMA, "head_dim": 16}
_PLAIN = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
# Family in the table of families, and the configuration of its class in transformers.
CONFIGS: dict[str, tuple[str, Any]] = {
    "llama": ("LLaMA", lambda: LlamaConfig(**_SMALL, **_LLAMA)),
    "mistral": ("Mistral", lambda: MistralConfig(**_SMALL, **_HEADS)),
    "mixtral": ("Mixtral", lambda: MixtralConfig(**_SMALL, **_HEADS, num_local_experts=4)),
    "phi": ("Phi", lambda: PhiConfig(**_SMALL, **_LLAMA)),
    "phi3": ("Phi-3", lambda: Phi3Config(**_SMALL, **_LLAMA)),
    "qwen2": ("Qwen2", lambda: Qwen2Config(**_SMALL, **_LLAMA)),
    "qwen3": ("Qwen3", lambda: Qwen3Config(**_SMALL, **_HEADS)),
    "gemma": ("Gemma", lambda: GemmaConfig(**_SMALL, **_HEADS)),
    "gemma2": ("Gemma", lambda: Gemma2Config(**_SMALL, **_HEADS)),
    "gemma3": ("Gemma", lambda: Gemma3TextConfig(**_SMALL, **_HEADS)),
    "glm": ("GLM", lambda: GlmConfig(**_SMALL, **_HEADS)),
    "glm4": ("GLM", lambda: Glm4Config(**_SMALL, **_HEADS)),
    "bloom": ("BLOOM", lambda: BloomConfig(**_SMALL, hidden_size=64, n_layer=2, n_head=4)),
    "falcon": ("Falcon", lambda: FalconConfig(**_SMALL, **_PLAIN)),
    "falcon-groups": (
        "Falcon",
        lambda: FalconConfig(**_SMALL, **_PLAIN, new_decoder_architecture=True, num_kv_heads=2),
    ),
    "gpt2": ("GPT-2", lambda: GPT2Config(**_SMALL, n_embd=64, n_layer=2, n_head=4, n_positions=64)),
    "gpt_neox": ("GPT-NeoX", lambda: GPTNeoXConfig(**_SMALL, **_PLAIN, intermediate_size=128)),
    "opt": ("OPT", lambda: OPTConfig(**_SMALL, **_PLAIN, ffn_dim=128, word_embed_proj_dim=64)),
}
# Family, and class of its model; the configuration's class is named in it.
REMOTE: dict[str, tuple[str, Any]] = {
    "baichuan": ("Baichuan", remote_code.BaichuanForCausalLM),
    "internlm": ("InternLM", remote_code.InternLMForCausalLM),
    "internlm2": ("InternLM2", remote_code.InternLM2ForCausalLM),
    "xverse": ("XVERSE", remote_code.XverseForCausalLM),
    "yi": ("Yi", remote_code.YiForCausalLM),
    "qwen": ("Qwen-1", remote_code.QWenLMHeadModel),
    "chatglm": ("ChatGLM", remote_code.ChatGLMForConditionalGeneration),
}
KINDS = [*CONFIGS, *REMOTE]


def family_of(kind: str) -> str:
    return (CONFIGS.get(kind) or REMOTE[kind])[0]


def save_kind(folder: Path, kind: str) -> Path:
    """A tiny base of a kind; where its family brings its own code, that lies in the folder."""
    if kind in CONFIGS:
        return save_tiny_base(folder, CONFIGS[kind][1]())
    model_class = REMOTE[kind][1]
    randomise(model_class(model_class.config_class())).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    shutil.copyfile(str(remote_code.__file__), folder / "remote_code.py")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {
        "AutoConfig": f"remote_code.{model_class.config_class.__name__}",
        "AutoModelForCausalLM": f"remote_code.{model_class.__name__}",
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder
