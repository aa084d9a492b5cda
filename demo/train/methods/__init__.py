"""The ways in which demo adapters are trained: PEFT's, and three of our own that follow their papers."""

from .delta_lora import DeltaLora
from .learner import Learner, Method
from .lora_drop import LoraDrop
from .peft_method import Peft
from .whole import FreezeTuning, FullTuning

__all__ = ["DeltaLora", "FreezeTuning", "FullTuning", "Learner", "LoraDrop", "Method", "Peft"]
