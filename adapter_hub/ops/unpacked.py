"""One-bit changes unpacked once, where there is room, instead of at every step."""

from __future__ import annotations

import weakref

import torch
import torch.nn.functional as F
from torch import Tensor

from ..updates import LinearUpdate, SiteUpdate
from ..updates.linear import unpack_signs
from .stacks import StackBudget


class UnpackedSigns(LinearUpdate):
    """The same update with its signs as int8, [out, in]: a cast at every step, where bits would be taken apart."""

    def sign_product(self, x: Tensor, signs: Tensor) -> Tensor:
        """``S x``; see the class."""
        signs = signs[:, : x.shape[-1]]
        exact = torch.promote_types(x.dtype, torch.float32)
        return F.linear(x.to(exact), signs.to(exact))


def unpacked(update: SiteUpdate, budget: StackBudget) -> SiteUpdate:
    """The update in the form that computes fastest on a CPU, if what that takes still fits.

    Its bytes are counted for as long as anybody holds it.
    """
    if type(update) is not LinearUpdate or update.signs is None or update.signs.device.type != "cpu":
        return update
    num_bytes = 8 * update.signs.numel()
    if not budget.take(num_bytes):
        return update
    with torch.inference_mode(False):
        signs = unpack_signs(update.signs, 8 * update.signs.shape[1]).to(torch.int8)
    made = UnpackedSigns(**{**vars(update), "signs": signs})
    weakref.finalize(made, budget.give_back, num_bytes).atexit = False
    return made
