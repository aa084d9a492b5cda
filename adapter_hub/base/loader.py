"""Load a base: any transformers causal LM, in 4-bit NF4 with double quantisation or in 16/32 bit."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from ..config import Settings
from ..errors import BaseModelError, SettingError
from . import default
from .head import settle_head
from .model import BaseModel

logger = logging.getLogger("adapter_hub.base")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# bitsandbytes says when it is imported that it would rather have an optional kernel package; nothing a user
# of the hub has to act on. Hence the level is set here and the import waits for its first use.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def load_base(
    base: str | Path | None = None,
    *,
    quantization: str | None = "nf4",
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "auto",
    revision: str | None = None,
    settings: Settings | None = None,
) -> BaseModel:
    """Load a base model and freeze it.

    Args:
        base: Hub id or folder; None takes the embedded default.
        quantization: ``"nf4"`` (bitsandbytes, double quantisation) or None. A checkpoint that is stored
            quantised loads as it is stored, whatever is asked here.
        dtype: compute type and type of what is not quantised; ``"auto"`` is the checkpoint's own without
            quantisation, else bfloat16 where the device has it.
        device: ``"auto"`` is CUDA where there is one.
        revision: commit or branch of a Hub id.
        settings: where the default base is cached, which 4-bit product a CPU uses, and whether a base may bring code.

    Raises:
        BaseModelError: the model cannot be found, fetched or loaded.
        SettingError: an argument has a value that it cannot have.
    """
    settings = settings or Settings.from_environment()
    target = _pick_device(device)
    folder = default.default_base_folder(settings) if base is None else base
    name = default.NAME if _is_default(folder, settings) else str(base)
    try:
        trust = settings.trust_remote_code
        config = AutoConfig.from_pretrained(folder, revision=revision, trust_remote_code=trust)
        stored = getattr(config, "quantization_config", None)
        compute = _pick_dtype(dtype, config, quantization, target)
        plan = _quantization_plan(quantization, stored, compute)
        model = AutoModelForCausalLM.from_pretrained(
            folder, revision=revision, dtype=compute, device_map={"": target}, trust_remote_code=trust, **plan
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, revision=revision, trust_remote_code=trust)
    except (OSError, ValueError, ImportError) as error:
        raise BaseModelError(
            f"the base {name} cannot be loaded: {error}.", hint="Name a folder or Hub id of a causal LM."
        ) from error
    if not hasattr(model, "generation_config"):
        raise BaseModelError(
            f"the base {name} has no generate of its own: the code that it brings is older than this transformers.",
            hint="Look for a newer revision of it, or for one that transformers has a class for.",
        )
    model.eval().requires_grad_(False)
    settle_head(model)
    wrapped = BaseModel(
        model,
        tokenizer,
        name=name,
        revision=getattr(config, "_commit_hash", None),
        compute_dtype=compute,
    )
    settle_cpu_kernel(model, settings.cpu_kernel, compute)
    if plan and wrapped.report().bits_per_weight is None:  # transformers leaves linears of a class of their own alone
        logger.warning("No linear of the base %s has a form in 4 bit: all of it is held in %s.", name, compute)
    return wrapped


def settle_cpu_kernel(model: torch.nn.Module, choice: str, compute: torch.dtype) -> int:
    """Give each 4-bit linear on a CPU its final layout now; returns how many use the fast product.

    bitsandbytes would do this at a linear's first forward: the base would change under its first user, and
    two threads could do it at once. ``docs/decisions/0001-cpu-kernel.md`` has the measurements behind
    ``auto``.
    """
    fast = choice == "fast" or (choice == "auto" and compute != torch.float32)
    import bitsandbytes as bnb

    repacked = 0
    for module in model.modules():
        if not isinstance(module, bnb.nn.Linear4bit) or module.weight.device.type != "cpu":
            continue
        # The repacked layout exists for whole tiles only; bitsandbytes stops at an assert on any other.
        whole = module.out_features % 32 == 0 and module.in_features % module.weight.blocksize == 0
        module.support_avx512bf16_for_cpu = bool(module.support_avx512bf16_for_cpu and fast and whole)
        if module.support_avx512bf16_for_cpu:
            repacked += 1
            _keep_through_state_dict(module)
            with torch.inference_mode():
                module(torch.zeros(1, module.in_features, dtype=compute))
    return repacked


def _keep_through_state_dict(module: torch.nn.Module) -> None:
    """Give a 4-bit linear its own weight back after its ``state_dict``.

    bitsandbytes undoes the fast layout there in place, and rounds the block scales a second time: the base
    would change under whoever asks for its state, as PEFT does when it loads an adapter.
    """
    stash: list[tuple[torch.Tensor, Any]] = []

    def before(module: Any, *_: Any) -> None:
        stash.append((module.weight.data, copy.copy(module.weight.quant_state)))

    def after(module: Any, *_: Any) -> None:
        module.weight.data, module.weight.quant_state = stash.pop()
        module.quant_state = module.weight.quant_state

    module.register_state_dict_pre_hook(before)
    module.register_state_dict_post_hook(after)


def _pick_device(device: str | torch.device) -> torch.device:
    if device == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise SettingError(f"device {device!r} is unknown.", hint="Write cpu, cuda or cuda:0.") from error
    if chosen.type not in ("cpu", "cuda") or (chosen.index or 0) >= (torch.cuda.device_count() or chosen.type == "cpu"):
        raise SettingError(f"device {device!r} is not on this machine.", hint="Write auto, cpu, or a CUDA device.")
    return chosen


def _pick_dtype(dtype: str | torch.dtype, config: Any, quantization: str | None, device: torch.device) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype != "auto":
        if dtype not in DTYPES:
            raise SettingError(f"dtype {dtype!r} is unknown.", hint=f"Choose auto or {', '.join(DTYPES)}.")
        return DTYPES[dtype]
    stored = getattr(config, "dtype", None) or torch.float32
    if quantization is None and not (device.type == "cpu" and stored == torch.float16):
        return stored
    has_bfloat16 = device.type != "cuda" or torch.cuda.is_bf16_supported()
    return torch.bfloat16 if has_bfloat16 else torch.float16


def _quantization_plan(quantization: str | None, stored: Any, compute: torch.dtype) -> dict[str, Any]:
    if quantization not in ("nf4", None):
        raise SettingError(f"quantization {quantization!r} is unknown.", hint="Choose 'nf4' or None.")
    if quantization is None or stored is not None:
        return {}
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute,
        )
    }


def _is_default(folder: str | Path, settings: Settings) -> bool:
    return Path(folder) == Path(settings.cache_dir) / default.FOLDER
