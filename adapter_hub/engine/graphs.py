"""Captured graphs of steps in which every row decodes: launching kernels one by one takes longer than running them.

A graph is captured once for a number of rows and a length of keys, both rounded up, and replayed with other inputs in
the same places: tokens, positions, pages, and the slot of each row. Adapters may come and go in between for as long
as ``capture_key`` stays what it was.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..base import BaseModel
from ..ops import StaticComposition
from ..runtime import RowMap, in_force
from .attention import Decoding, PagedStep, Reading

SHORTEST_KEYS = 256
MAX_GRAPHS = 64
_log = logging.getLogger(__name__)
CaptureKey = Callable[[Sequence[int]], object | None]


class _StaticStep(PagedStep):
    """Rows that decode, whose keys are listed in tensors that stay where they are."""

    def __init__(self, decoding: Decoding) -> None:
        self.decoding = decoding

    def reads(self, allocator: Any) -> tuple[list[Decoding], list[Reading]]:
        return [self.decoding], []


def supports(device: torch.device) -> bool:
    """Whether graphs can be captured there."""
    return device.type == "cuda"


class Capture:
    """What a function launches, captured once, to be launched again as a whole.

    Args:
        run: launches it, from tensors that stay where they are.
        device: a CUDA device.

    ``result`` is what ``run`` gave; each replay writes it anew.
    """

    pool: Any = None  # of memory that all captures share: one runs at a time

    def __init__(self, run: Callable[[], Tensor], device: torch.device) -> None:
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            run()  # compiles, and makes what is made once
        torch.cuda.current_stream(device).wait_stream(side)
        Capture.pool = Capture.pool or torch.cuda.graph_pool_handle()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=Capture.pool, capture_error_mode="thread_local"):
            self.result = run()

    def replay(self) -> None:
        """Launch it."""
        self._graph.replay()


class _Graph:
    """One captured step.

    Args:
        base: the model.
        data: a step's keyword arguments, of which those that are not inputs are taken.
        num_rows: rows.
        num_keys: keys of each row.
        trash: the row of the cache that padding writes to.
    """

    def __init__(self, base: BaseModel, data: dict[str, Any], num_rows: int, num_keys: int, trash: int) -> None:
        device = base.device
        self.trash = trash
        with torch.inference_mode(False), torch.no_grad():
            self.ids = torch.zeros(1, num_rows, dtype=torch.int32, device=device)
            self.positions = torch.zeros_like(self.ids)
            self.writes = torch.full((num_rows,), trash, dtype=torch.int64, device=device)
            self.keys = torch.zeros(num_rows, num_keys, dtype=torch.int64, device=device)
            self.mask = torch.zeros(num_rows, 1, 1, num_keys, dtype=torch.bool, device=device)
            self.mask[..., 0] = True  # a row of padding sees one key, for a softmax over none is no number
            tokens = torch.arange(num_rows, device=device)
            counts = torch.arange(num_rows + 1, dtype=torch.int32, device=device)
        self.slots = StaticComposition(num_rows, device)
        rows = RowMap.captured(self.slots)
        step = _StaticStep(Decoding(tokens, self.keys.view(-1), self.mask))
        inputs = data | {
            "input_ids": self.ids,
            "position_ids": self.positions,
            "write_index": [self.writes],
            "read_index": [self.keys.new_zeros(0)],
            "cu_seq_lens_q": counts,
            "cu_seq_lens_k": dict.fromkeys(data["cu_seq_lens_k"], counts),
            "logits_indices": tokens,
            "logits_to_keep": tokens,
            "paged_step": step,
        }

        def run() -> Tensor:
            with in_force(rows):
                logits: Tensor = base.model(**inputs).logits[0].float()
            return logits

        self.capture = Capture(run, device)

    def replay(self, data: dict[str, Any], slots: Sequence[int], keys: Tensor, lengths: Tensor) -> Tensor:
        """Logits [rows, vocabulary] of a step; they stand until the next replay."""
        num_rows, length = keys.shape
        self.ids[:, :num_rows] = data["input_ids"]
        self.positions[:, :num_rows] = data["position_ids"]
        self.writes.fill_(self.trash)
        self.writes[:num_rows] = data["write_index"][0]
        device = self.ids.device
        self.keys[:num_rows, :length] = keys.to(device, non_blocking=True)
        lengths = torch.nn.functional.pad(lengths, (0, self.keys.shape[0] - num_rows), value=1).to(device)
        self.mask[:, 0, 0] = torch.arange(self.keys.shape[1], device=device) < lengths.unsqueeze(1)
        self.slots.slots_on_device.zero_()
        self.slots.slots_on_device[:num_rows] = torch.tensor(slots, dtype=torch.int32).to(device)
        self.capture.replay()
        return self.capture.result[:num_rows]


class DecodeGraphs:
    """The graphs of one batch, made when they are first wanted.

    Args:
        base: the model, on CUDA.
        cache: the pages; all layers of full attention.
        capture_key: see ``EngineRoom``.
        max_rows: the most rows a step has.
    """

    def __init__(self, base: BaseModel, cache: Any, capture_key: CaptureKey, max_rows: int) -> None:
        self.base = base
        self.cache = cache
        self.max_rows = max_rows
        self.is_broken = False
        self._capture_key = capture_key
        self._graphs: OrderedDict[tuple[object, int, int], _Graph] = OrderedDict()

    def run(self, step: PagedStep, data: dict[str, Any], slots: Sequence[int]) -> Tensor | None:
        """Logits [rows, vocabulary] in float32; None for a step that no graph can run."""
        if self.is_broken or any(span.num_tokens > 1 for span in step.spans):
            return None
        key = self._capture_key(slots)
        if key is None:
            return None
        (allocator,) = self.cache.cache_allocators.values()
        keys, lengths = step.all_keys(allocator)
        num_rows = min(self.max_rows, 1 << (len(slots) - 1).bit_length())
        num_keys = max(SHORTEST_KEYS, 1 << (keys.shape[1] - 1).bit_length())
        wanted = key, num_rows, num_keys
        graph = self._graphs.get(wanted)
        if graph is None:
            try:
                graph = _Graph(self.base, data, num_rows, num_keys, allocator.write_trash_index)
            except RuntimeError as error:
                _log.warning("CUDA graphs are left out: %s", error)
                self.is_broken = True
                return None
            for other in [known for known in self._graphs if known[0] != key]:
                del self._graphs[other]
            self._graphs[wanted] = graph
            if len(self._graphs) > MAX_GRAPHS:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(wanted)
        return graph.replay(data, slots, keys, lengths)
