"""Requests: prompts, sampling and generation."""

from .generation import Row, check_length, run_batch, stream_row
from .prompts import Message, Prompt, Voice, adapter_voice, base_voice, vocabulary_of
from .sampling import Completion, Sampling

__all__ = [
    "Completion",
    "Message",
    "Prompt",
    "Row",
    "Sampling",
    "Voice",
    "adapter_voice",
    "base_voice",
    "check_length",
    "run_batch",
    "stream_row",
    "vocabulary_of",
]
