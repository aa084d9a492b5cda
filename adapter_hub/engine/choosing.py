"""From logits to tokens, each row by its own request."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from .grammar import Constraint, allowed
from .sampling import Sampling, TokenLogprob

LEAST_TEMPERATURE = 1e-5  # below it the likeliest token has all of the probability, and logits over it overflow


@dataclass
class Chooser:
    """How one sequence's tokens are chosen, and what that depends on.

    Args:
        sampling: the request's choices.
        prompt: the prompt's token ids.
        generated: token ids since; whoever runs the sequence appends to it.
        seed: of the draws; None takes one from the system.
        constraint: what its text has to keep to.
    """

    sampling: Sampling
    prompt: Sequence[int]
    generated: list[int]
    seed: int | None = None
    constraint: Constraint | None = None
    logprobs: list[TokenLogprob] = field(default_factory=list)

    def __post_init__(self) -> None:
        # A generator in Python: its draws are the same on every device and in every batch.
        self.draw = random.Random(self.seed).random
        given = self.sampling
        self.warps = (given.temperature, given.top_k, given.top_p, given.min_p)
        self.is_biased = bool(
            given.repetition_penalty != 1 or given.presence_penalty or given.frequency_penalty or given.logit_bias
        )


def choose(logits: Tensor, rows: Sequence[Chooser]) -> Tensor:
    """The next token of each row; log probabilities that a row asks for are appended to it.

    Args:
        logits: [rows, vocabulary] float32; not written.
        rows: one a row.

    Returns:
        [rows] int64
    """
    scores = _constrained(_biased(logits, rows), rows)
    tokens = scores.argmax(-1)
    drawn = [k for k, row in enumerate(rows) if row.sampling.temperature >= LEAST_TEMPERATURE]
    if drawn:
        tokens[torch.tensor(drawn, device=tokens.device)] = _draw(scores, rows, drawn)
    asked = [k for k, row in enumerate(rows) if row.sampling.logprobs is not None]
    if asked:
        _report(logits, tokens, rows, asked)
    return tokens


def _biased(logits: Tensor, rows: Sequence[Chooser]) -> Tensor:
    biased = [k for k, row in enumerate(rows) if row.is_biased]
    if not biased:
        return logits
    scores = logits.clone()
    for k in biased:
        row, given = rows[k], rows[k].sampling
        own = scores[k : k + 1]
        if given.repetition_penalty != 1:
            seen = torch.tensor([[*row.prompt, *row.generated]], device=logits.device)
            own = RepetitionPenaltyLogitsProcessor(given.repetition_penalty)(seen, own)
        shift = Counter[int]()
        for token, count in Counter(row.generated).items():
            shift[token] = -(given.presence_penalty + given.frequency_penalty * count)  # type: ignore[assignment]
        for token, bias in given.logit_bias.items():
            shift[token] += bias  # type: ignore[assignment]
        known = [token for token in shift if 0 <= token < logits.shape[1]]
        if known:
            where = torch.tensor(known, device=logits.device)
            own[0, where] += torch.tensor([shift[token] for token in known], dtype=own.dtype, device=logits.device)
        scores[k] = own[0]
    return scores


def _constrained(logits: Tensor, rows: Sequence[Chooser]) -> Tensor:
    held = [(k, row.constraint, row.generated) for k, row in enumerate(rows) if row.constraint is not None]
    if not held:
        return logits
    for _, constraint, generated in held:
        constraint.follow(generated)
    mask = allowed([constraint for _, constraint, _ in held], logits.shape[1]).to(logits.device)
    where = torch.tensor([k for k, *_ in held], device=logits.device)
    scores = logits.clone()
    scores[where] = logits[where].masked_fill(~mask, float("-inf"))
    return scores


def _draw(scores: Tensor, rows: Sequence[Chooser], drawn: Sequence[int]) -> Tensor:
    groups: dict[tuple[float, int, float, float], list[int]] = {}
    for place, k in enumerate(drawn):
        groups.setdefault(rows[k].warps, []).append(place)
    tokens = torch.empty(len(drawn), dtype=torch.long, device=scores.device)
    for warps, places in groups.items():
        members = torch.tensor([drawn[place] for place in places], device=scores.device)
        probabilities = _warped(scores[members], *warps).softmax(-1, dtype=torch.float64)
        sums = probabilities.cumsum(-1)
        shares = torch.tensor([[rows[drawn[place]].draw()] for place in places], dtype=torch.float64)
        # Below the sum of all, so that what is found is a token with a probability.
        points = (shares.to(sums.device) * sums[:, -1:]).minimum(sums[:, -1:] * (1 - 2**-40))
        found = torch.searchsorted(sums, points, right=True).squeeze(1)
        tokens[torch.tensor(places, device=scores.device)] = found
    return tokens


def _warped(scores: Tensor, temperature: float, top_k: int, top_p: float, min_p: float) -> Tensor:
    warpers = LogitsProcessorList()
    if temperature != 1:
        warpers.append(TemperatureLogitsWarper(float(temperature)))
    if top_k:
        warpers.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        warpers.append(TopPLogitsWarper(float(top_p)))
    if min_p > 0:
        warpers.append(MinPLogitsWarper(float(min_p)))
    return warpers(None, scores)


def _report(logits: Tensor, tokens: Tensor, rows: Sequence[Chooser], asked: Sequence[int]) -> None:
    members = torch.tensor(asked, device=logits.device)
    logs = logits[members].log_softmax(-1)
    own = logs.gather(1, tokens[members].unsqueeze(1)).squeeze(1).tolist()
    most = max(rows[k].sampling.logprobs or 0 for k in asked)
    values, ids = logs.topk(most) if most else (logs[:, :0], logs[:, :0].long())
    for k, logprob, best, value in zip(asked, own, ids.tolist(), values.tolist(), strict=True):
        count = rows[k].sampling.logprobs or 0
        alternatives = tuple(zip(best[:count], value[:count], strict=True))
        rows[k].logprobs.append(TokenLogprob(int(tokens[k]), logprob, alternatives))
