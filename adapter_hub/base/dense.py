"""The weight of a linear as numbers: what its product multiplies with, whatever it is stored as."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ..errors import UnsupportedFeature

_PACKED_ROWS = 32  # bitsandbytes' fast CPU layout interleaves this many output rows


def dense_weight(path: str, module: nn.Module) -> Tensor:
    """W [out, in] in float32, on the module's device. Reads only; a 4-bit weight keeps its layout.

    Raises:
        UnsupportedFeature: the module is of a quantiser whose storage is not known here.
    """
    weight: Any = module.weight
    state = getattr(weight, "quant_state", None)
    if state is not None:
        return _from_fast_layout(weight.data, state) if _is_fast(state) else _dequantised(weight.data, state)
    if not weight.is_floating_point() or weight.dim() != 2:
        raise UnsupportedFeature(
            f"the weight of {path} ({type(module).__name__}) cannot be read as numbers.",
            hint="Load the base in NF4 or in 16 bit for this adapter.",
        )
    dense: Tensor = weight.detach().float()
    return dense.T if isinstance(module, Conv1D) else dense


def _is_fast(state: Any) -> bool:
    return bool(getattr(state, "packing_format_for_cpu", False))


def _dequantised(data: Tensor, state: Any) -> Tensor:
    from bitsandbytes.functional import dequantize_4bit

    exact = copy.copy(state)
    exact.dtype = torch.float32  # the state's own type would round once more
    dense: Tensor = dequantize_4bit(data, exact)
    return dense


def _from_fast_layout(data: Tensor, state: Any) -> Tensor:
    """Undo bitsandbytes' permutation on a copy: pairs of inputs by blocks of 32 outputs, low nibbles first."""
    rows, columns = state.shape
    pairs = data.reshape(-1, _PACKED_ROWS)
    nibbles = torch.cat([pairs & 0xF, pairs >> 4], dim=1)
    codes = nibbles.reshape(rows // _PACKED_ROWS, columns // 2, _PACKED_ROWS, 2).transpose(1, 2).reshape(rows, columns)
    scales = state.absmax.float().T.repeat_interleave(state.blocksize, dim=1)
    dense: Tensor = state.code[codes.long()] * scales
    return dense
