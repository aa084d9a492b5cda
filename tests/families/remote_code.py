"""Small models with the module names, fused layouts and tensor orders of families that bring their own code.

This file lies in each of their folders as the code of the model, and is run from there. It knows only torch and
transformers, as such code does.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput


class TinyConfig(PreTrainedConfig):
    vocab_size: int = 96
    hidden_size: int = 64
    intermediate_size: int = 96
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    num_key_value_heads: int = 2

    @property
    def head_size(self):
        return self.hidden_size // self.num_attention_heads


class RMSNorm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return F.rms_norm(x, x.shape[-1:], self.weight, 1e-6)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention over [rows, tokens, heads, size], with rotary positions; fewer heads of k and v are shared."""
    half = q.shape[-1] // 2
    angles = torch.arange(q.shape[1]).outer(10000.0 ** (-torch.arange(half) / half)).repeat(1, 2)[:, None]
    cos, sin = angles.cos(), angles.sin()
    q, k = (x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin for x in (q, k))
    k, v = (x.repeat_interleave(q.shape[2] // x.shape[2], dim=2) for x in (k, v))
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)


class Gated(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Separate(nn.Module):
    """q, k and v apart; InternLM with biases, XVERSE and Yi without."""

    def __init__(self, config):
        super().__init__()
        self.size, bias = config.head_size, config.model_type == "internlm"
        width = config.num_key_value_heads * self.size
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=bias)
        self.k_proj = nn.Linear(config.hidden_size, width, bias=bias)
        self.v_proj = nn.Linear(config.hidden_size, width, bias=bias)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=bias)

    def forward(self, x):
        parts = (p(x).unflatten(-1, (-1, self.size)) for p in (self.q_proj, self.k_proj, self.v_proj))
        return self.o_proj(attend(*parts))


class Packed(nn.Module):
    """Baichuan: q, k and v one after the other in ``W_pack``."""

    def __init__(self, config):
        super().__init__()
        self.size = config.head_size
        self.W_pack = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=False)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, x):
        parts = self.W_pack(x).unflatten(-1, (3, -1, self.size)).unbind(-3)
        return self.o_proj(attend(*parts))


class LlamaLayer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.self_attn = (Packed if config.model_type == "baichuan" else Separate)(config)
        self.mlp = Gated(config)
        self.input_layernorm = RMSNorm(config.hidden_size)
        self.post_attention_layernorm = RMSNorm(config.hidden_size)

    def forward(self, x):
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class LlamaBody(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(LlamaLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size)

    def forward(self, ids):
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class TinyModel(PreTrainedModel, GenerationMixin):
    config_class = TinyConfig

    def _init_weights(self, module):
        pass

    def get_output_embeddings(self):
        return self.lm_head


class TinyLlamaLike(TinyModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = LlamaBody(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.model.embed_tokens

    def forward(self, input_ids, **_):
        return CausalLMOutput(logits=self.lm_head(self.model(input_ids)))


class BaichuanConfig(TinyConfig):
    model_type = "baichuan"


class BaichuanForCausalLM(TinyLlamaLike):
    config_class = BaichuanConfig


class InternLMConfig(TinyConfig):
    model_type = "internlm"


class InternLMForCausalLM(TinyLlamaLike):
    config_class = InternLMConfig


class XverseConfig(TinyConfig):
    model_type = "xverse"


class XverseForCausalLM(TinyLlamaLike):
    config_class = XverseConfig


class YiConfig(TinyConfig):
    model_type = "Yi"


class YiForCausalLM(TinyLlamaLike):
    config_class = YiConfig


class Grouped(nn.Module):
    """InternLM2: for each of k's heads, the heads of q that share it, k and v."""

    def __init__(self, config):
        super().__init__()
        self.heads, self.groups, self.size = config.num_attention_heads, config.num_key_value_heads, config.head_size
        self.wqkv = nn.Linear(config.hidden_size, (self.heads + 2 * self.groups) * self.size, bias=False)
        self.wo = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, x):
        fused = self.wqkv(x).unflatten(-1, (self.groups, -1, self.size))
        return self.wo(attend(fused[..., :-2, :].flatten(2, 3), fused[..., -2, :], fused[..., -1, :]))


class FeedForward(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.w1 = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.w3 = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.w2 = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x):
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class InternLM2Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.attention, self.feed_forward = Grouped(config), FeedForward(config)
        self.attention_norm, self.ffn_norm = RMSNorm(config.hidden_size), RMSNorm(config.hidden_size)

    def forward(self, x):
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.ffn_norm(x))


class InternLM2Config(TinyConfig):
    model_type = "internlm2"


class InternLM2ForCausalLM(TinyModel):
    config_class = InternLM2Config

    def __init__(self, config):
        super().__init__(config)
        self.model = nn.Module()
        self.model.tok_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.model.layers = nn.ModuleList(InternLM2Layer(config) for _ in range(config.num_hidden_layers))
        self.model.norm = RMSNorm(config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.model.tok_embeddings

    def get_output_embeddings(self):
        return self.output

    def forward(self, input_ids, **_):
        x = self.model.tok_embeddings(input_ids)
        for layer in self.model.layers:
            x = layer(x)
        return CausalLMOutput(logits=self.output(self.model.norm(x)))


class QwenAttention(nn.Module):
    """Qwen-1: ``c_attn`` is a linear, where GPT-2's of the same name keeps its weight transposed."""

    def __init__(self, config):
        super().__init__()
        self.size = config.head_size
        self.c_attn = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.c_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, x):
        parts = (part.unflatten(-1, (-1, self.size)) for part in self.c_attn(x).chunk(3, -1))
        return self.c_proj(attend(*parts))


class QwenMLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.w1 = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.w2 = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.c_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x):
        return self.c_proj(self.w1(x) * F.silu(self.w2(x)))


class QwenBlock(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.ln_1, self.ln_2 = RMSNorm(config.hidden_size), RMSNorm(config.hidden_size)
        self.attn, self.mlp = QwenAttention(config), QwenMLP(config)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class QWenConfig(TinyConfig):
    model_type = "qwen"


class QWenLMHeadModel(TinyModel):
    config_class = QWenConfig

    def __init__(self, config):
        super().__init__(config)
        self.transformer = nn.Module()
        self.transformer.wte = nn.Embedding(config.vocab_size, config.hidden_size)
        self.transformer.h = nn.ModuleList(QwenBlock(config) for _ in range(config.num_hidden_layers))
        self.transformer.ln_f = RMSNorm(config.hidden_size)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.transformer.wte

    def forward(self, input_ids, **_):
        x = self.transformer.wte(input_ids)
        for block in self.transformer.h:
            x = block(x)
        return CausalLMOutput(logits=self.lm_head(self.transformer.ln_f(x)))


class GLMAttention(nn.Module):
    """ChatGLM 2 and 3: all q, then the few k, then the few v, and tokens before rows."""

    def __init__(self, config):
        super().__init__()
        self.heads, self.groups, self.size = config.num_attention_heads, config.num_key_value_heads, config.head_size
        self.query_key_value = nn.Linear(config.hidden_size, (self.heads + 2 * self.groups) * self.size)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, x):
        fused = self.query_key_value(x).transpose(0, 1).unflatten(-1, (-1, self.size))
        parts = fused.split([self.heads, self.groups, self.groups], dim=2)
        return self.dense(attend(*parts).transpose(0, 1))


class GLMMLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.dense_h_to_4h = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.dense_4h_to_h = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x):
        gate, up = self.dense_h_to_4h(x).chunk(2, -1)
        return self.dense_4h_to_h(F.silu(gate) * up)


class GLMBlock(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size)
        self.self_attention = GLMAttention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size)
        self.mlp = GLMMLP(config)

    def forward(self, x):
        x = x + self.self_attention(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class ChatGLMConfig(TinyConfig):
    model_type = "chatglm"


class ChatGLMForConditionalGeneration(TinyModel):
    config_class = ChatGLMConfig

    def __init__(self, config):
        super().__init__(config)
        self.transformer = nn.Module()
        self.transformer.embedding = nn.Module()
        self.transformer.embedding.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.transformer.encoder = nn.Module()
        self.transformer.encoder.layers = nn.ModuleList(GLMBlock(config) for _ in range(config.num_hidden_layers))
        self.transformer.encoder.final_layernorm = RMSNorm(config.hidden_size)
        self.transformer.output_layer = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.transformer.embedding.word_embeddings

    def get_output_embeddings(self):
        return self.transformer.output_layer

    def forward(self, input_ids, **_):
        x = self.transformer.embedding.word_embeddings(input_ids).transpose(0, 1).contiguous()
        for block in self.transformer.encoder.layers:
            x = block(x)
        logits = self.transformer.output_layer(self.transformer.encoder.final_layernorm(x))
        return CausalLMOutput(logits=logits.transpose(0, 1).contiguous())
