"""Grouped products: what a site does with a batch whose rows use different adapters."""

from .choice import choose
from .composition import Composition, StaticComposition
from .plan import MakePlanner, Plan, Planner
from .reference import ReferencePlanner
from .stacks import StackBudget

__all__ = [
    "Composition",
    "MakePlanner",
    "Plan",
    "Planner",
    "ReferencePlanner",
    "StackBudget",
    "StaticComposition",
    "choose",
]
