"""Requests: prompts, sampling, and the loop that runs them together."""

from .defaults import SYSTEM_PROMPT, check_defaults
from .engine import Engine
from .plain import hold_plain, run_batch, stream_row
from .prompts import Message, Prompt, Voice, adapter_voice, base_voice, vocabulary_of
from .requests import Generation, Load, Row, check_length
from .sampling import Completion, Sampling, Timing, TokenLogprob

__all__ = [
    "SYSTEM_PROMPT",
    "Completion",
    "Engine",
    "Generation",
    "Load",
    "Message",
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
    "hold_plain",
    "run_batch",
    "stream_row",
    "vocabulary_of",
]
