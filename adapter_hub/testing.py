"""For authors of plugins: a tiny base to try an adapter on, and the checks that the hub's own types pass."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .hub import AdapterHub

VOCABULARY = 96
CHAT_TEMPLATE = """\
{%- for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}
{%- if add_generation_prompt %}<assistant>{% endif %}"""


def tiny_tokenizer() -> Any:
    """A transformers tokenizer of single characters, with a chat template."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    characters = [chr(code) for code in range(32, 32 + VOCABULARY - 3)]
    vocabulary = {token: k for k, token in enumerate(["<unk>", "<s>", "</s>", *characters])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def randomise(model: Any, seed: int = 0) -> Any:
    """Give a model random weights, large enough that every part of it shows in its logits."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0.0, 0.15)
            if parameter.dim() == 1 and "bias" not in name:
                parameter.add_(1.0)
    return model.eval()


def save_tiny_base(folder: Path, config: Any = None) -> Path:
    """Save a tiny random causal LM with its tokenizer, and return the folder.

    Args:
        folder: where to.
        config: a transformers config with a vocabulary of ``VOCABULARY``; None makes a Llama of two layers with
            64 channels, whose linears are ``q_proj`` [64, 64], ``k_proj`` [32, 64], ``up_proj`` [128, 64], ...
    """
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = config or LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    randomise(AutoModelForCausalLM.from_config(config)).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def random_ids(rows: int, length: int = 12, seed: int = 5) -> Tensor:
    """Token ids [rows, length] for a tiny base."""
    return torch.randint(3, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


def logits(hub: AdapterHub, adapters: Sequence[str | None], ids: Tensor) -> Tensor:
    """Logits [rows, length, vocabulary] of a batch, each row with its own adapter."""
    with hub.rows(adapters), torch.inference_mode():
        found: Tensor = hub.model(ids.to(hub.model.device)).logits
    return found


def assert_rows_as_alone(hub: AdapterHub, adapters: Sequence[str | None], *, atol: float = 1e-4) -> None:
    """Fail unless each row of a mixed batch is what it is alone, in logits and in greedy text.

    Args:
        hub: a hub on a tiny base in float32.
        adapters: names, and None for the base; a batch with several adapters and the base asks the most.
        atol: largest difference of logits that passes.
    """
    ids = random_ids(len(adapters))
    mixed = logits(hub, adapters, ids)
    for row, name in enumerate(adapters):
        alone = logits(hub, [name], ids[row : row + 1])
        torch.testing.assert_close(mixed[row : row + 1], alone, atol=atol, rtol=0)
    prompts = [f"prompt {row}" for row in range(len(adapters))]
    together = hub.generate(prompts, adapters=adapters, max_new_tokens=8)
    for prompt, name, completion in zip(prompts, adapters, together, strict=True):
        assert completion == hub.generate(prompt, adapter=name, max_new_tokens=8)
