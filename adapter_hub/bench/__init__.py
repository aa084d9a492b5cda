"""A load for any server that speaks OpenAI's API, spread over adapters, and what is measured of it."""

from .chart import draw
from .client import Outcome, Target, drive
from .figures import Figures, figures_of
from .plan import DISTRIBUTIONS, PROMPTS, Job, plan

__all__ = ["DISTRIBUTIONS", "PROMPTS", "Figures", "Job", "Outcome", "Target", "draw", "drive", "figures_of", "plan"]
