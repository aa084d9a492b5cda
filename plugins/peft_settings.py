"""What PEFT's configurations have in common, and which of their settings change no mathematics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

LARGEST = 3.4e38

# Said of every type: who wrote the file, where it applies (the tensors' names tell better), how it was trained.
COMMON = frozenset(
    "auto_mapping base_model_name_or_path bias exclude_modules fan_in_fan_out inference_mode init_weights "
    "layers_pattern layers_to_transform modules_to_save peft_type peft_version revision runtime_config "
    "target_modules task_type".split()
)


def unknown_settings(config: Mapping[str, Any], known: frozenset[str]) -> list[str]:
    """A sentence for each setting that is neither common nor among ``known``, and is not switched off.

    A newer PEFT may have given it a meaning that would be computed wrongly without it.
    """
    return [
        f"the setting {name}={value!r} changes the mathematics in a way that is not served."
        for name, value in config.items()
        if name not in COMMON and name not in known and not _is_off(name, value)
    ]


def _is_off(name: str, value: object) -> bool:
    # An empty table of patterns says nothing; any other object switches something on with all its defaults.
    return value in (None, False, [], "none") or (value == {} and name.endswith("_pattern"))


def is_number(value: object) -> bool:
    """Whether a setting is a number that float32 can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a setting is a whole number of 64 bit."""
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
