"""What a training loop asks of a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import bitsandbytes as bnb
import torch
from torch import Tensor, nn

from ..base_model import BaseModel, load_base
from ..batches import Batch


class Method(Protocol):
    """A way to train an adapter; frozen, so that a recipe can hold it."""

    @property
    def title(self) -> str:
        """The method's name."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the card says of it: rank, alpha and what else matters."""
        ...

    @property
    def how(self) -> str:
        """What learns, and on which form of the base, as the middle of a sentence."""
        ...

    @property
    def optimizer(self) -> str:
        """The optimiser's name, for the card."""
        ...

    def load(self, folder: Path | None) -> BaseModel:
        """The base in the form that this method trains on."""
        ...

    def start(self, base: BaseModel, batches: Sequence[Batch], learning_rate: float) -> Learner:
        """Put what learns onto the base."""
        ...


class Learner:
    """One training under way.

    Args:
        causal_lm: the transformers model that the loss is taken on, with what learns on it.
        parameters: what learns.
        optimizer: over those.
    """

    def __init__(self, causal_lm: Any, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
        self.causal_lm = causal_lm
        self.parameters = list(parameters)
        self.optimizer = optimizer

    def precision(self) -> AbstractContextManager[Any]:
        """The context that the loss is computed in."""
        return nullcontext()

    def regularisation(self) -> Tensor | float:
        """What the method adds to the loss."""
        return 0.0

    def before_step(self, step: int) -> None:
        """Called with gradients in place, before the optimiser moves anything."""

    def after_step(self, step: int) -> None:
        """Called after the optimiser's step, gradients still in place."""

    def save(self, out: Path) -> None:
        """Write the adapter into ``out``."""
        raise NotImplementedError


class OnNf4:
    """What methods have in common that train beside the frozen base in NF4 with AdamW."""

    @property
    def optimizer(self) -> str:
        """The optimiser's name, for the card."""
        return adamw_name()

    def load(self, folder: Path | None) -> BaseModel:
        """The base in NF4."""
        return load_base(folder)


def adamw(parameters: Sequence[nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
    """AdamW; on a GPU bitsandbytes' paged one, whose state may move to host memory, as in QLoRA."""
    return adamw_class()(parameters, lr=learning_rate, weight_decay=0.0)


def adamw_class() -> Any:
    """The class behind ``adamw``."""
    return bnb.optim.PagedAdamW if torch.cuda.is_available() else torch.optim.AdamW


def adamw_name() -> str:
    """What the card calls it."""
    return "paged AdamW" if torch.cuda.is_available() else "AdamW"


def answer_loss(causal_lm: Any, batch: Batch) -> Tensor:
    """Mean cross entropy of the answer tokens."""
    ids, is_answer = batch.input_ids.to(causal_lm.device), batch.is_answer.to(causal_lm.device)
    # No attention mask: padding is on the right, where causal attention never looks. And only the positions
    # before an answer token go through lm_head, whose 49,152 rows would cost as much as eight layers.
    hidden = causal_lm.model(input_ids=ids).last_hidden_state[:, :-1]
    logits = causal_lm.lm_head(hidden[is_answer[:, 1:]]).float()
    return torch.nn.functional.cross_entropy(logits, ids[:, 1:][is_answer[:, 1:]])
