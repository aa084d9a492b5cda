"""Triton kernels: the stackable parts of the canonical form, each token under its own slot, in three launches.

A site's slots are described by a table on the device, int64 [slots, COLUMNS]: for each part an address (0: none) and
a type, for each factor the distance of its rows, and the rank. Kernels find everything there, so they run at
each adapter's own rank, and a CUDA graph that was captured once stays right while adapters come and go.

Tokens are worked on in tiles of one slot: ``tile_slot [tiles]`` and ``tile_tokens [tiles, BLOCK_M]``, -1 where a tile
has fewer. Decoding has tiles of one token; then products are sums, which read each factor once and need no
tensor cores.
"""

from __future__ import annotations

import triton
import triton.language as tl

POINTERS = ("A", "B", "mid_scale", "branch_scale", "out_scale", "in_scale", "bias")
KINDS = ("float32", "bfloat16", "float16")
COLUMNS = tl.constexpr(18)
_A, _B, _MID, _BRANCH, _OUT, _IN, _BIAS = (tl.constexpr(k) for k in range(7))
KIND = tl.constexpr(7)  # of part p at KIND + p
RANK, ROW_A, ROW_B = tl.constexpr(14), tl.constexpr(15), tl.constexpr(16)


@triton.jit
def _load(row, part, offsets, mask):
    """Values of a part as float32, whatever it is stored in."""
    address = tl.load(row + part)
    kind = tl.load(row + KIND + part)
    if kind == 0:
        values = tl.load(address.to(tl.pointer_type(tl.float32)) + offsets, mask=mask, other=0.0)
    elif kind == 1:
        values = tl.load(address.to(tl.pointer_type(tl.bfloat16)) + offsets, mask=mask, other=0.0).to(tl.float32)
    else:
        values = tl.load(address.to(tl.pointer_type(tl.float16)) + offsets, mask=mask, other=0.0).to(tl.float32)
    return values


@triton.jit
def scale_input(x, seen, table, slot_of_token, num_inputs, BLOCK_K: tl.constexpr):
    """seen[t] = in_scale[s] * x[t],  s = slot_of_token[t]

    ``x [tokens, in]``, ``seen [tokens, in]`` (written), ``slot_of_token [tokens]`` int32; grid (tokens, in / BLOCK_K).
    """
    token = tl.program_id(0).to(tl.int64)
    k = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
    row = table + tl.load(slot_of_token + token).to(tl.int64) * COLUMNS
    values = tl.load(x + token * num_inputs + k, mask=k < num_inputs)
    if tl.load(row + _IN) != 0:
        scale = _load(row, _IN, k, k < num_inputs).to(values.dtype)
        values = (values.to(tl.float32) * scale.to(tl.float32)).to(values.dtype)
    tl.store(seen + token * num_inputs + k, values, mask=k < num_inputs)


@triton.jit
def shrink(
    x,
    h,
    table,
    tile_slot,
    tile_tokens,
    num_inputs,
    max_rank,
    BLOCK_M: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """h[t] = mid_scale[s] * (A[s] x[t]) in float32, for the tokens t of a tile and its slot s

    ``x [tokens, in]``, ``h [tokens, max_rank]`` float32 (its first rank[s] columns are written), ``A[s] [r, in]``;
    grid (tiles, max_rank / BLOCK_R).
    """
    tile = tl.program_id(0)
    row = table + tl.load(tile_slot + tile).to(tl.int64) * COLUMNS
    rank = tl.load(row + RANK)
    r = tl.program_id(1) * BLOCK_R + tl.arange(0, BLOCK_R)
    tokens = tl.load(tile_tokens + tile * BLOCK_M + tl.arange(0, BLOCK_M)).to(tl.int64)
    if tl.program_id(1) * BLOCK_R < rank:
        row_a = tl.load(row + ROW_A)
        total = tl.zeros([BLOCK_M, BLOCK_R], dtype=tl.float32)
        for start in range(0, num_inputs, BLOCK_K):
            k = start + tl.arange(0, BLOCK_K)
            known = (tokens[:, None] >= 0) & (k[None, :] < num_inputs)
            part = tl.load(x + tokens[:, None] * num_inputs + k[None, :], mask=known, other=0.0).to(tl.float32)
            inside = (r[:, None] < rank) & (k[None, :] < num_inputs)
            factor = _load(row, _A, r[:, None] * row_a + k[None, :], inside)
            if BLOCK_M == 1:
                total += tl.sum(part * factor, axis=1)[None, :]
            else:
                total += tl.dot(part, tl.trans(factor), input_precision="ieee")
        if tl.load(row + _MID) != 0:
            total = total * _load(row, _MID, r, r < rank)[None, :]
        tl.store(h + tokens[:, None] * max_rank + r[None, :], total, mask=(tokens[:, None] >= 0) & (r[None, :] < rank))


@triton.jit
def expand(
    h,
    y,
    table,
    tile_slot,
    tile_tokens,
    num_outputs,
    max_rank,
    Y_KIND: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """y[t] = out_scale[s] * y[t] + branch_scale[s] * (B[s] h[t]) + bias[s], for the tokens t of a tile and its slot s

    ``h [tokens, max_rank]`` float32, ``y [tokens, out]`` (changed in place), ``B[s] [out, r]``;
    grid (tiles, out / BLOCK_N). Roundings are those of ``LinearUpdate.output``: the branch to y's type before the
    sum; y itself after each step, or only at the end where its scale is of a wider type.
    """
    tile = tl.program_id(0)
    row = table + tl.load(tile_slot + tile).to(tl.int64) * COLUMNS
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    tokens = tl.load(tile_tokens + tile * BLOCK_M + tl.arange(0, BLOCK_M)).to(tl.int64)
    rank = tl.load(row + RANK)
    has_scale, has_bias = tl.load(row + _OUT) != 0, tl.load(row + _BIAS) != 0
    if has_scale | has_bias | (rank > 0):
        mask = (tokens[:, None] >= 0) & (n[None, :] < num_outputs)
        place = y + tokens[:, None] * num_outputs + n[None, :]
        stored = tl.load(place, mask=mask, other=0.0)
        total = stored.to(tl.float32)
        wide = has_scale & (tl.load(row + KIND + _OUT) != Y_KIND)
        if has_scale:
            total = total * _load(row, _OUT, n, n < num_outputs)[None, :]
            total = tl.where(wide, total, total.to(stored.dtype).to(tl.float32))
        if rank > 0:
            row_b = tl.load(row + ROW_B)
            branch = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
            for start in range(0, rank, BLOCK_R):
                r = start + tl.arange(0, BLOCK_R)
                known = (tokens[:, None] >= 0) & (r[None, :] < rank)
                middle = tl.load(h + tokens[:, None] * max_rank + r[None, :], mask=known, other=0.0)
                inside = (n[:, None] < num_outputs) & (r[None, :] < rank)
                factor = _load(row, _B, n[:, None] * row_b + r[None, :], inside)
                if BLOCK_M == 1:
                    branch += tl.sum(middle * factor, axis=1)[None, :]
                else:
                    branch += tl.dot(middle, tl.trans(factor), input_precision="ieee")
            if tl.load(row + _BRANCH) != 0:
                branch = branch * _load(row, _BRANCH, n, n < num_outputs)[None, :]
            total = total + branch.to(stored.dtype).to(tl.float32)
            total = tl.where(wide, total, total.to(stored.dtype).to(tl.float32))
        if has_bias:
            total = total + _load(row, _BIAS, n, n < num_outputs)[None, :]
        tl.store(place, total.to(stored.dtype), mask=mask)
