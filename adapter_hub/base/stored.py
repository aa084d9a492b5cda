"""A base in full precision that stays on disk: its numbers are read when they are asked for."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Protocol

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.pytorch_utils import Conv1D

from ..errors import BaseModelError, ShapeMismatch
from .model import BaseModel


class StoredTensors(Protocol):
    """Tensors by name, in a checkpoint's folder."""

    folder: Path

    def __contains__(self, name: str) -> bool:
        """Whether there is one of this name."""
        ...

    def __getitem__(self, name: str) -> torch.Tensor:
        """Read one."""
        ...


class StoredBase(BaseModel):
    """A checkpoint as a base that adapters can be held against, lowered to and folded into, but not run.

    Its model has shapes and no numbers; each tensor is read from the checkpoint whenever it is asked for.

    Args:
        checkpoint: in safetensors, in 16 or 32 bit.
        name: Hub id or folder that adapters may record.
        aliases: further names of that kind.

    Raises:
        BaseModelError: the folder holds no causal LM that transformers builds, or one that is stored quantised.
        CorruptFile: a tensor cannot be read.
    """

    def __init__(self, checkpoint: StoredTensors, *, name: str, aliases: tuple[str, ...] = ()) -> None:
        self._checkpoint = checkpoint
        try:
            # Left open, trust_remote_code asks whoever sits at the terminal whether to run the checkpoint's code.
            config = AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=False)
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(config, trust_remote_code=False).eval().requires_grad_(False)
            tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder, trust_remote_code=False)
        except (OSError, ValueError, ImportError) as error:
            raise BaseModelError(
                f"the checkpoint {checkpoint.folder} is no base: {error}.",
                hint="Name a folder or Hub id of a causal LM with its config and tokenizer.",
            ) from error
        if getattr(config, "quantization_config", None) is not None:
            raise BaseModelError(
                f"the checkpoint {checkpoint.folder} is stored quantised.", hint="Name one in 16 or 32 bit."
            )
        with suppress(OSError):  # many checkpoints have none
            model.generation_config = GenerationConfig.from_pretrained(checkpoint.folder)
        self._names = _stored_names(model, checkpoint)
        super().__init__(model, tokenizer, name=name, aliases=aliases)
        self.device = torch.device("cpu")

    def parameter(self, path: str, name: str) -> torch.Tensor:
        """A parameter, or a buffer that checkpoints keep, as it is stored.

        Raises:
            BaseModelError: the checkpoint has none of this name.
            ShapeMismatch: it has another shape than the model asks for.
        """
        asked = f"{path}.{name}" if path else name
        if asked not in self._names:
            raise BaseModelError(
                f"the checkpoint {self._checkpoint.folder} has no tensor {asked}.",
                hint="It may name its tensors as an older version did: load it with transformers and save it again "
                "with save_pretrained(folder, save_original_format=False).",
            )
        tensor = self._checkpoint[self._names[asked]]
        shape = getattr(self.module(path), name).shape
        if tensor.shape != shape:
            raise ShapeMismatch(
                f"tensor {asked} of {self._checkpoint.folder} is {list(tensor.shape)}, not {list(shape)}."
            )
        return tensor

    def dense_weight(self, path: str) -> torch.Tensor:
        """W [out, in] of a linear site in float32."""
        weight = self.parameter(path, "weight").float()
        return weight.T.contiguous() if isinstance(self.module(path), Conv1D) else weight


def _stored_names(model: nn.Module, checkpoint: StoredTensors) -> dict[str, str]:
    """Each tensor's name in the model -> its name in the checkpoint, for those that are there.

    A checkpoint may have been saved from the model within the causal LM, and keeps one of tied tensors only.
    """
    inner = f"{getattr(model, 'base_model_prefix', '')}."
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    found: dict[str, str] = {}
    by_tensor: dict[int, str] = {}
    for name, tensor in tensors:
        stored = next((form for form in (name, name.removeprefix(inner)) if form in checkpoint), None)
        if stored is not None:
            found[name] = by_tensor[id(tensor)] = stored
    for name, tensor in tensors:
        if name not in found and id(tensor) in by_tensor:
            found[name] = by_tensor[id(tensor)]
    return found
