"""Mixed batches in Triton: no copies of any adapter, tables of addresses that kernels read."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..updates import LinearUpdate, SiteUpdate
from . import kernels
from .composition import Composition
from .plan import BaseCall
from .reference import GroupPlan, entries_of, own_memory
from .stacks import stack_key

COLUMNS = int(kernels.COLUMNS.value)
KINDS = {getattr(torch, name): k for k, name in enumerate(kernels.KINDS)}
TILE = 16  # tokens of one slot that are worked on together, the least that tensor cores take
NUM_SLOTS = 64


class TritonPlanner:
    """Keeps a site's table of slots on the device; see ``kernels``.

    The table has one address for as long as ``structure`` stays the same: so long a captured CUDA graph is right.

    Args:
        updates: the site's updates by slot; tensors on the device.
        device: of the base.
    """

    def __init__(self, updates: Mapping[int, SiteUpdate], device: torch.device) -> None:
        self.updates = updates
        self.device = device
        self.max_rank = 0
        self.scales_input = False
        self._in_table: set[int] = set()
        self._table: Tensor = self._zeros(NUM_SLOTS)
        self._lock = threading.Lock()

    @property
    def structure(self) -> tuple[object, ...]:
        """What decides which kernels a forward over the table launches, and with which addresses."""
        return self._table.data_ptr(), self.max_rank, self.scales_input

    @property
    def alone(self) -> frozenset[int]:
        """Slots that are not in the table: no graph can be captured over them."""
        return frozenset(self.updates.keys() - self._in_table)

    def plan(self, composition: Composition, x: Tensor) -> TritonPlan | None:
        """See ``Planner``."""
        if composition.is_static:
            return TritonPlan(self, composition, self._table, GroupPlan(()), True)
        present = [slot for slot in composition.spans if slot in self.updates]
        if not present:
            return None
        alone = [slot for slot in present if slot not in self._in_table or x.dtype not in KINDS]
        groups = [(entries_of(composition, slot, x.device), self.updates[slot]) for slot in alone]
        return TritonPlan(self, composition, self._table, GroupPlan(groups), len(alone) < len(present))

    def prepared(self, slot: int) -> SiteUpdate:
        """See ``Planner``."""
        return self.updates[slot]

    def changed(self, slot: int, gone: SiteUpdate | None = None) -> None:
        """Write the slot's row of the table. Nobody uses the slot: it is about to be published, or was retired."""
        with self._lock:
            update = self.updates.get(slot)
            if slot >= self._table.shape[0]:
                grown = self._zeros(max(slot + 1, 2 * self._table.shape[0]))
                grown[: self._table.shape[0]] = self._table
                self._table = grown
            row = [0] * COLUMNS if update is None else _row(update)
            self._in_table.discard(slot)
            if any(row):
                self._in_table.add(slot)
            self._table[slot] = torch.tensor(row, dtype=torch.int64)
            if isinstance(update, LinearUpdate) and any(row):
                self.scales_input |= update.in_scale is not None
                rank = 0 if update.A is None else update.A.shape[0]
                if rank > self.max_rank:  # in powers of two, so that it seldom grows
                    self.max_rank = max(TILE, 1 << (rank - 1).bit_length())

    def _zeros(self, num_slots: int) -> Tensor:
        with torch.inference_mode(False):
            return torch.zeros(num_slots, COLUMNS, dtype=torch.int64, device=self.device)


def _row(update: SiteUpdate) -> list[int]:
    """A slot's row of the table; all zero for an update that is left to its own ``output``."""
    row = [0] * COLUMNS
    if not isinstance(update, LinearUpdate) or stack_key(update) is None:
        return row
    for name, tensor in update.tensors().items():
        if tensor.dtype not in KINDS or tensor.stride(-1) != 1:
            return [0] * COLUMNS
        part = kernels.POINTERS.index(name)
        row[part] = tensor.data_ptr()
        row[int(kernels.KIND.value) + part] = KINDS[tensor.dtype]
    if update.A is not None and update.B is not None:
        row[int(kernels.RANK.value)] = update.A.shape[0]
        row[int(kernels.ROW_A.value)] = update.A.stride(0)
        row[int(kernels.ROW_B.value)] = update.B.stride(0)
    return row


class TritonPlan:
    """Kernels over the slots of the table, and group by group what is not in it."""

    def __init__(
        self, planner: TritonPlanner, composition: Composition, table: Tensor, groups: GroupPlan, has_table: bool
    ) -> None:
        self.planner = planner
        self.composition = composition
        self.table = table
        self.groups = groups
        self.by_entry = bool(groups.groups)
        self.has_table = has_table

    def run(self, module: nn.Module, base: BaseCall, x: Tensor) -> Tensor:
        """See ``Plan``."""
        tokens = x.reshape(-1, x.shape[-1]).contiguous() if self.has_table else x
        seen = self._scaled(tokens) if self.has_table and self.planner.scales_input else tokens
        of_groups = [x[where] for where, _ in self.groups.groups]
        seen = self.groups.seen(x, x if seen is tokens else seen.view(x.shape), of_groups)
        y = own_memory(base(seen), seen).contiguous()
        if self.has_table:
            self._apply(tokens, y.view(-1, y.shape[-1]))
        return self.groups.finish(module, of_groups, y) if of_groups else y

    def _scaled(self, x: Tensor) -> Tensor:
        seen, (num_tokens, num_inputs) = torch.empty_like(x), x.shape
        slots = self.composition.slot_of_token(x.device)
        kernels.scale_input[num_tokens, -(-num_inputs // 1024)](x, seen, self.table, slots, num_inputs, BLOCK_K=1024)
        return seen

    def _apply(self, x: Tensor, y: Tensor) -> None:
        """Change ``y`` in place. Shapes: ``x [tokens, in]``, ``y [tokens, out]``."""
        tile_slot, tile_tokens = self.composition.tiles(TILE, x.device)
        num_tiles, width = tile_tokens.shape
        rank = self.planner.max_rank
        h = torch.empty(x.shape[0], max(rank, 1), dtype=torch.float32, device=x.device)
        where = (self.table, tile_slot, tile_tokens)
        if rank:
            kernels.shrink[num_tiles, rank // TILE](
                x, h, *where, x.shape[1], rank, BLOCK_M=width, BLOCK_R=TILE, BLOCK_K=256 if width == 1 else 64
            )
        kernels.expand[num_tiles, -(-y.shape[1] // 64)](
            h, y, *where, y.shape[1], max(rank, 1), Y_KIND=KINDS[y.dtype], BLOCK_M=width, BLOCK_N=64, BLOCK_R=TILE
        )
