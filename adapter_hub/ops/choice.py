"""Which way a hub computes mixed batches; asked once, when it starts."""

from __future__ import annotations

import torch

from .plan import MakePlanner
from .planner import StackingPlanner
from .reference import ReferencePlanner
from .stacks import StackBudget


def choose(wanted: str, device: torch.device, budget: StackBudget) -> MakePlanner:
    """What makes a planner for each adapted site.

    Args:
        wanted: ``reference`` (group by group), ``torch`` (stacks), or ``auto``.
        device: where the base is.
        budget: what all stacks together may take.
    """
    if wanted == "reference":
        return ReferencePlanner
    return lambda updates: StackingPlanner(updates, budget)
