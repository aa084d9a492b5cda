"""The families of base models, and which of them have the modules that an adapter's file names.

A table for telling, not for serving: a base of any other family is served too, for its own modules decide at load.
``docs/families.md`` says what each row was tested with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")


@dataclass(frozen=True)
class Family:
    """One family.

    Args:
        name: what people call it.
        base_classes: classes of its causal models, in transformers or in the code that comes with a model.
        model_types: ``model_type`` in their configurations.
        modules: paths of the modules that adapters change, with N for the numbers in them.
    """

    name: str
    base_classes: tuple[str, ...]
    model_types: tuple[str, ...]
    modules: frozenset[str]

    def __str__(self) -> str:
        """Name and base classes, as ``inspect`` shows them."""
        return f"{self.name} ({' or '.join(self.base_classes)})"


def families_of(paths: Iterable[str], model_types: tuple[str, ...] = ()) -> tuple[Family, ...]:
    """The families that have all of these modules, or that a file names by itself; none for no path."""
    if model_types:
        return tuple(family for family in FAMILIES if set(family.model_types) & set(model_types))
    wanted = {NUMBER.sub("N", path) for path in paths}
    return tuple(family for family in FAMILIES if wanted and wanted <= family.modules)


def _modules(layer: str, inner: str, outer: str) -> frozenset[str]:
    """Paths below a layer, as ``part.name,name part.name``, and those outside of the layers."""
    paths = outer.split()
    for group in inner.split():
        part, _, names = group.rpartition(".")
        paths += [".".join(filter(None, (layer, part, name))) for name in names.split(",")]
    return frozenset(paths)


_LAYER, _HEADS = "model.layers.N", "model.embed_tokens lm_head"
_ATTENTION = "self_attn.q_proj,k_proj,v_proj,o_proj"
_LLAMA = _modules(_LAYER, f"{_ATTENTION} mlp.gate_proj,up_proj,down_proj", _HEADS)
_MIXTRAL = _modules(
    _LAYER, f"{_ATTENTION} mlp.gate,experts block_sparse_moe.gate block_sparse_moe.experts.N.w1,w2,w3", _HEADS
)
_FUSED_MLP = "mlp.gate_up_proj,down_proj"
_BLOOM = "self_attention.query_key_value,dense mlp.dense_h_to_4h,dense_4h_to_h"

FAMILIES = (
    Family("LLaMA", ("LlamaForCausalLM",), ("llama",), _LLAMA),
    Family("Yi", ("LlamaForCausalLM", "YiForCausalLM"), ("llama", "Yi"), _LLAMA),
    Family("Mistral", ("MistralForCausalLM",), ("mistral",), _LLAMA),
    Family("Mixtral", ("MixtralForCausalLM",), ("mixtral",), _MIXTRAL),
    Family("Qwen2", ("Qwen2ForCausalLM",), ("qwen2",), _LLAMA),
    Family("Qwen3", ("Qwen3ForCausalLM",), ("qwen3",), _LLAMA),
    Family(
        "Gemma",
        ("GemmaForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM"),
        ("gemma", "gemma2", "gemma3_text"),
        _LLAMA,
    ),
    Family("XVERSE", ("XverseForCausalLM",), ("xverse",), _LLAMA),
    Family("InternLM", ("InternLMForCausalLM",), ("internlm",), _LLAMA),
    Family(
        "InternLM2",
        ("InternLM2ForCausalLM",),
        ("internlm2",),
        _modules(_LAYER, "attention.wqkv,wo feed_forward.w1,w2,w3", "model.tok_embeddings output"),
    ),
    Family(
        "Baichuan",
        ("BaichuanForCausalLM", "BaiChuanForCausalLM"),
        ("baichuan",),
        _modules(_LAYER, "self_attn.W_pack,o_proj mlp.gate_proj,up_proj,down_proj", _HEADS),
    ),
    Family(
        "GLM",
        ("GlmForCausalLM", "Glm4ForCausalLM"),
        ("glm", "glm4"),
        _modules(_LAYER, f"{_ATTENTION} {_FUSED_MLP}", _HEADS),
    ),
    Family(
        "ChatGLM",
        ("ChatGLMForConditionalGeneration", "ChatGLMModel"),
        ("chatglm",),
        _modules(
            "transformer.encoder.layers.N", _BLOOM, "transformer.embedding.word_embeddings transformer.output_layer"
        ),
    ),
    Family(
        "Phi",
        ("PhiForCausalLM",),
        ("phi",),
        _modules(_LAYER, "self_attn.q_proj,k_proj,v_proj,dense mlp.fc1,fc2", _HEADS),
    ),
    Family(
        "Phi-3", ("Phi3ForCausalLM",), ("phi3",), _modules(_LAYER, f"self_attn.qkv_proj,o_proj {_FUSED_MLP}", _HEADS)
    ),
    Family(
        "GPT-2",
        ("GPT2LMHeadModel",),
        ("gpt2",),
        _modules("transformer.h.N", "attn.c_attn,c_proj mlp.c_fc,c_proj", "transformer.wte transformer.wpe lm_head"),
    ),
    Family(
        "Qwen-1",
        ("QWenLMHeadModel",),
        ("qwen",),
        _modules("transformer.h.N", "attn.c_attn,c_proj mlp.w1,w2,c_proj", "transformer.wte lm_head"),
    ),
    Family(
        "GPT-NeoX",
        ("GPTNeoXForCausalLM",),
        ("gpt_neox",),
        _modules(
            "gpt_neox.layers.N",
            "attention.query_key_value,dense mlp.dense_h_to_4h,dense_4h_to_h",
            "gpt_neox.embed_in lm_head embed_out",
        ),
    ),
    Family(
        "BLOOM",
        ("BloomForCausalLM",),
        ("bloom",),
        _modules("transformer.h.N", _BLOOM, "transformer.word_embeddings lm_head"),
    ),
    Family(
        "Falcon",
        ("FalconForCausalLM",),
        ("falcon",),
        _modules("transformer.h.N", _BLOOM, "transformer.word_embeddings lm_head"),
    ),
    Family(
        "OPT",
        ("OPTForCausalLM",),
        ("opt",),
        _modules(
            "model.decoder.layers.N",
            "self_attn.q_proj,k_proj,v_proj,out_proj fc1,fc2",
            "model.decoder.embed_tokens model.decoder.embed_positions lm_head",
        ),
    ),
)
