"""Which way a hub computes mixed batches; asked once, when it starts."""

from __future__ import annotations

from importlib.util import find_spec

import torch

from ..errors import SettingError
from .plan import MakePlanner
from .planner import StackingPlanner
from .reference import ReferencePlanner
from .stacks import StackBudget


def choose(wanted: str, device: torch.device, budget: StackBudget) -> MakePlanner:
    """What makes a planner for each adapted site.

    Args:
        wanted: ``reference`` (group by group), ``torch`` (stacks), ``triton`` (kernels), or ``auto``.
        device: where the base is.
        budget: what all stacks together may take.

    Raises:
        SettingError: ``triton`` is wanted and not installed.
    """
    if wanted == "reference":
        return ReferencePlanner
    has_triton = find_spec("triton") is not None
    if wanted == "triton" and not has_triton:
        raise SettingError("mixed_path is 'triton', which is not installed.", hint="Choose auto, or install triton.")
    if wanted == "triton" or (wanted == "auto" and device.type == "cuda" and has_triton):
        from .triton_planner import TritonPlanner

        return lambda updates: TritonPlanner(updates, device)
    return lambda updates: StackingPlanner(updates, budget)
