"""For authors of plugins: a tiny base to try an adapter on, workloads, and the checks that the hub's own types pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .hub import AdapterHub
from .runtime import RowMap
from .updates import LinearUpdate, SiteUpdate
from .updates.linear import pack_signs

VOCABULARY = 96
POPULARITIES = ("distinct", "uniform", "zipf", "identical", "skewed")
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


@dataclass(frozen=True)
class Workload:
    """Sequences of one batch.

    Args:
        slots: one slot a sequence; 0 is the base.
        lengths: tokens a sequence; all equal where the batch is not packed.
        packed: whether the sequences lie one after the other in a single row.
    """

    slots: tuple[int, ...]
    lengths: tuple[int, ...]
    packed: bool

    def rows(self) -> RowMap:
        """The row map of the batch."""
        if self.packed:
            return RowMap.packed(self.slots, self.lengths).for_batch(1, sum(self.lengths))
        return RowMap(self.slots).for_batch(len(self.slots), self.lengths[0])

    def shape(self, width: int) -> tuple[int, int, int]:
        """Shape of a site's input of ``width`` features."""
        return (1, sum(self.lengths), width) if self.packed else (len(self.slots), self.lengths[0], width)


def popular_slots(popularity: str, rows: int, adapters: int, generator: torch.Generator) -> tuple[int, ...]:
    """A slot for each row, 0 (the base) among them unless all rows are to be distinct or identical.

    Args:
        popularity: ``distinct`` (each row its own, in random order), ``uniform``, ``zipf`` (the k-th with weight
            1 / k), ``identical`` (all one) or ``skewed`` (half of the rows one, the others distinct).
        rows: how many.
        adapters: slots 1 to this number hold one.
    """

    def shuffled() -> list[int]:
        return (torch.randperm(adapters, generator=generator) + 1).tolist()

    if popularity == "distinct":
        return tuple((shuffled() * (rows // adapters + 1))[:rows])
    if popularity == "identical":
        return (shuffled()[0],) * rows
    if popularity == "skewed":
        favourite, *others = shuffled()
        return tuple(favourite if k % 2 else ([0, *others] * rows)[k // 2] for k in range(rows))
    weights = torch.ones(adapters + 1) if popularity == "uniform" else 1 / torch.arange(1.0, adapters + 2)
    return tuple(torch.multinomial(weights, rows, replacement=True, generator=generator).tolist())


def workloads(seed: int, adapters: int, sizes: Sequence[int] = (1, 2, 5, 8, 13, 32)) -> Iterator[Workload]:
    """Decoding, prefill and packed batches of every popularity and of odd sizes."""
    generator = torch.Generator().manual_seed(seed)
    for popularity in POPULARITIES:
        for rows in sizes:
            slots = popular_slots(popularity, rows, adapters, generator)
            length = int(torch.randint(2, 9, (1,), generator=generator))
            ragged = torch.randint(1, 12, (rows,), generator=generator).tolist()
            chunk = [1] * (rows - 1) + [90]  # decoding beside a chunk of somebody's prefill
            yield Workload(slots, (1,) * rows, packed=False)
            yield Workload(slots, (length,) * rows, packed=False)
            for lengths in ([1] * rows, ragged, chunk):
                yield Workload(slots, tuple(lengths), packed=True)


def expected(module: nn.Module, updates: dict[int, SiteUpdate], workload: Workload, x: Tensor) -> list[Tensor]:
    """What each sequence must get: its update's own ``output`` on its own tokens and on nothing else.

    Args:
        module: the base's module, not adapted.
        updates: by slot; a slot without one is the base.
        workload: the batch.
        x: its input, of ``workload.shape(in)``.

    Returns:
        [tokens, out'] for each sequence; ``out'`` is that of its own update.
    """
    outputs = []
    for slot, part in zip(workload.slots, x.flatten(0, 1).split(workload.lengths), strict=True):
        update = updates.get(slot)
        if update is None:
            outputs.append(module(part))
        else:
            outputs.append(update.output(module, part, module(update.base_input(part))))
    return outputs


def assert_rows_as_expected(y: Tensor, outputs: Sequence[Tensor], *, atol: float = 1e-4) -> None:
    """Fail unless a batch's output holds each sequence's own, and minus infinity where it has none."""
    lengths = [len(output) for output in outputs]
    for got, output in zip(y.flatten(0, 1).split(lengths), outputs, strict=True):
        own = output.shape[-1]
        torch.testing.assert_close(got[:, :own].float(), output.float(), atol=atol, rtol=atol)
        assert torch.isneginf(got[:, own:]).all()


def draw_update(
    parts: Sequence[str],
    draw: Callable[..., Tensor],
    *,
    num_inputs: int,
    num_outputs: int,
    rank: int,
    dtype: torch.dtype,
) -> LinearUpdate:
    """A random update with these parts of the canonical form.

    Args:
        parts: names of ``LinearUpdate``'s fields; ``rows`` brings ``row_ids``, ``signs`` brings ``sign_scale``.
        draw: gives a normal tensor of a shape.
        num_inputs: of the site.
        num_outputs: of the site.
        rank: of A and B.
        dtype: in which the parts are stored.
    """
    shapes = {
        "A": (rank, num_inputs),
        "B": (num_outputs, rank),
        "mid_scale": (rank,),
        "branch_scale": (num_outputs,),
        "out_scale": (num_outputs,),
        "in_scale": (num_inputs,),
        "bias": (num_outputs,),
        "D": (num_outputs, num_inputs),
        "rows": (2, num_inputs),
        "signs": (num_outputs, num_inputs),
        "sign_scale": (num_outputs,),
    }
    # Sizes at which every part shows, and sums stay of the size of the inputs.
    fans = {"A": num_inputs, "B": rank, "D": num_inputs, "rows": num_inputs, "sign_scale": num_inputs}
    brought = ("sign_scale",) if "signs" in parts else ()
    tensors = {name: (draw(*shapes[name]) / fans.get(name, 1) ** 0.5).to(dtype) for name in (*parts, *brought)}
    if "signs" in parts:
        tensors["signs"] = pack_signs(tensors["signs"])
    if "rows" in parts:
        tensors["row_ids"] = torch.tensor([1, num_outputs + 1])
    return LinearUpdate(**tensors)
