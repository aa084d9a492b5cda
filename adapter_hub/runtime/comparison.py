"""How far the merged path of an adapter lies from its factors path, measured on prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from ..base import BaseModel
from .merge import MergedWeights
from .rowmap import CURRENT, RowMap

NEW_TOKENS = 32
SAMPLE_PROMPTS = (
    "The capital of France is",
    "Please send the report to Anna Berg before Friday at 10:30.",
    "SELECT name FROM users WHERE",
    "The package arrived two days late and the box was damaged, but",
)


@dataclass(frozen=True)
class MergeReport:
    """What merging an adapter changes.

    Args:
        adapter: its name; None is the base.
        dtype: type of the merged weights.
        bytes: what they take.
        seconds: how long it took to make them.
        merged_sites: how many sites run a merged weight.
        kept_sites: by path, why a site that the adapter changes stays on the factors path.
        tokens: over which the figures below were taken; 0 where nothing was run, and they are None.
        max_difference: largest absolute difference of a logit between the two paths.
        relative_error: that difference on the scale of the largest logit.
        greedy_agreement: share of the positions at which both paths choose the same next token.
    """

    adapter: str | None
    dtype: str
    bytes: int
    seconds: float
    merged_sites: int
    kept_sites: Mapping[str, str]
    tokens: int = 0
    max_difference: float | None = None
    relative_error: float | None = None
    greedy_agreement: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def compare(
    base: BaseModel, adapter: str | None, slot: int, merged: MergedWeights, prompts: Sequence[Sequence[int]] = ()
) -> MergeReport:
    """Run prompts on both paths, one by one; without prompts, only say what was merged.

    Each prompt is first continued greedily on the factors path, so that answers are compared too.

    Args:
        base: the base, with the adapter in ``slot``.
        adapter: its name, for the report.
        slot: in use by the caller.
        merged: in use by the caller.
        prompts: token ids.
    """
    tokens, same, difference, scale = 0, 0, 0.0, 0.0
    for prompt in prompts:
        rows = RowMap(everywhere=slot, merged={})
        ids = _continued(base, rows, prompt)
        factors, folded = _logits(base, rows, ids), _logits(base, rows.with_merged(merged.linears), ids)
        absent = torch.isneginf(factors)  # tokens that this adapter does not have
        difference = max(difference, (folded - factors).masked_fill(absent, 0.0).abs().max().item())
        scale = max(scale, factors.masked_fill(absent, 0.0).abs().max().item())
        same += int((folded.argmax(-1) == factors.argmax(-1)).sum())
        tokens += ids.shape[1]
    report = MergeReport(
        adapter=adapter,
        dtype=str(base.compute_dtype).removeprefix("torch."),
        bytes=merged.num_bytes,
        seconds=merged.seconds,
        merged_sites=len(merged.linears),
        kept_sites=merged.kept,
    )
    if not tokens:
        return report
    error = difference / scale if scale else 0.0
    return replace(
        report, tokens=tokens, max_difference=difference, relative_error=error, greedy_agreement=same / tokens
    )


def _continued(base: BaseModel, rows: RowMap, prompt: Sequence[int]) -> Tensor:
    """Token ids [1, n] of a prompt and its greedy continuation."""
    ids = torch.tensor([prompt], device=base.device)
    limit = getattr(base.model.config, "max_position_embeddings", None)
    room = NEW_TOKENS if limit is None else min(NEW_TOKENS, limit - len(prompt))
    if room < 1:
        return ids
    config = GenerationConfig(max_new_tokens=room, do_sample=False, pad_token_id=0)
    with _in_force(rows), torch.inference_mode():
        found: Tensor = base.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config
        )
    return found


def _logits(base: BaseModel, rows: RowMap, ids: Tensor) -> Tensor:
    """Logits [n, vocabulary] of token ids [1, n] in float32."""
    with _in_force(rows), torch.inference_mode():
        found: Tensor = base.model(ids, use_cache=False).logits
    return found[0].float()


@contextmanager
def _in_force(rows: RowMap) -> Iterator[None]:
    token = CURRENT.set(rows)
    try:
        yield
    finally:
        CURRENT.reset(token)
