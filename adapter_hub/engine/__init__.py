"""Requests: prompts, sampling, and the loop that runs them together."""

from .defaults import SYSTEM_PROMPT, check_defaults
from .engine import Engine
from .grammar import Constraint, constraint_of
from .plain import hold_plain, run_batch, stream_row
from .prompts import Message, Prompt, Voice, adapter_voice, base_voice, vocabulary_of
from .requests import Generation, Load, Piece, Row, check_length, max_positions
from .sampling import Completion, Sampling, Timing, TokenLogprob

__all__ = [
    "SYSTEM_PROMPT",
    "Completion",
    "Constraint",
    "Engine",
    "Generation",
    "Load",
    "Message",
    "Piece",
    "Prompt",
    "Row",
    "Sampling",
    "Timing",
    "TokenLogprob",
    "Voice",
    "adapter_voice",
    "base_voice",
    "check_defaults",
    "check_length",
    "constraint_of",
    "hold_plain",
    "max_positions",
    "run_batch",
    "stream_row",
    "vocabulary_of",
]
