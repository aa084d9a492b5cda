"""Full tuning and freeze tuning: the weights themselves learn, and the adapter is what changed in them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from adapter_hub.loading import Checkpoint, get_importer, import_tuned
from adapter_hub.plugin_manager import load_plugins

from ..base_model import BASE_NAME, BaseModel, load_base
from ..batches import Batch
from .calibration import calibrate
from .learner import Learner, adamw, adamw_name


@dataclass(frozen=True)
class FreezeTuning:
    """The last ``blocks`` blocks are thawed in 16 bit; the others stay in NF4. Kept exact."""

    blocks: int = 1
    title = "Freeze tuning"
    how = "with the thawed block in 16 bit and the frozen rest of the base in NF4 with double quantisation"

    @property
    def optimizer(self) -> str:
        """The optimiser's name, for the card."""
        return adamw_name()

    @property
    def settings(self) -> dict[str, Any]:
        """How many blocks learn, and how they are kept."""
        return {"thawed_blocks": self.blocks, "keep": "exact"}

    def load(self, folder: Path | None) -> BaseModel:
        """The base in NF4 but for its last blocks."""
        return load_base(folder, thawed_blocks=self.blocks)

    def start(self, base: BaseModel, batches: Sequence[Batch], learning_rate: float) -> Learner:
        """Thaw the last blocks."""
        layers = base.model.model.layers
        first = len(layers) - self.blocks
        learning = {
            name: parameter
            for name, parameter in base.model.named_parameters()
            if any(name.startswith(f"model.layers.{k}.") for k in range(first, len(layers)))
        }
        return _WholeLearner(base, learning, learning_rate, keep="exact", rank=1)


@dataclass(frozen=True)
class FullTuning:
    """Every parameter learns, on the base in 16 bit; the change is kept in one bit a weight or in low rank."""

    keep: str = "one-bit"
    rank: int = 16
    calibration_steps: int = 150
    calibration_rate: float = 3e-3
    title = "Full tuning"
    how = "of every parameter of the base in 16 bit; what it changed was then compressed for the base in NF4"

    @property
    def optimizer(self) -> str:
        """The optimiser's name, for the card."""
        return adamw_name()

    @property
    def settings(self) -> dict[str, Any]:
        """How the change is kept."""
        return {
            "keep": self.keep,
            "rank": self.rank,
            "calibration_steps": self.calibration_steps,
            "calibration_rate": self.calibration_rate,
        }

    def load(self, folder: Path | None) -> BaseModel:
        """The base as its checkpoint has it."""
        return load_base(folder, quantised=False)

    def start(self, base: BaseModel, batches: Sequence[Batch], learning_rate: float) -> Learner:
        """Thaw everything."""
        learning = dict(base.model.named_parameters())
        return _WholeLearner(
            base, learning, learning_rate, keep=self.keep, rank=self.rank, finish=self._finish(batches)
        )

    def _finish(self, batches: Sequence[Batch]) -> Callable[[Path, Path], None]:
        def finish(folder: Path, checkpoint: Path) -> None:
            sample = batches[: self.calibration_steps]
            calibrate(folder, load_base(checkpoint), sample, self.calibration_rate)

        return finish


class _WholeLearner(Learner):
    def __init__(
        self,
        base: BaseModel,
        learning: Mapping[str, nn.Parameter],
        learning_rate: float,
        *,
        keep: str,
        rank: int,
        finish: Callable[[Path, Path], None] | None = None,
    ) -> None:
        for parameter in base.model.parameters():
            parameter.requires_grad_(False)
        for parameter in learning.values():
            parameter.data = parameter.data.float()  # steps of 16 bit would round most of them away
            parameter.requires_grad_(True)
        super().__init__(base.model.train(), list(learning.values()), adamw(list(learning.values()), learning_rate))
        self.folder, self.learning, self.keep, self.rank = base.folder, learning, keep, rank
        self.finish = finish

    def precision(self) -> AbstractContextManager[Any]:
        """On a GPU products run in bfloat16 over the float32 weights."""
        return torch.autocast("cuda", torch.bfloat16) if torch.cuda.is_available() else nullcontext()

    def save(self, out: Path) -> None:
        """Write the tuned checkpoint, and import it as ``adapter-hub add --tuned-from`` does."""
        plugins = load_plugins()
        importer = get_importer(plugins, self.keep)
        folder = self.folder
        with tempfile.TemporaryDirectory() as scratch:
            tuned = _save_tuned(folder, self.learning, Path(scratch))
            made = import_tuned(
                importer,
                plugins.owner(importer),
                Checkpoint(folder),
                Checkpoint(tuned),
                Path(scratch) / "adapter",
                base_name=BASE_NAME,
                rank=self.rank,
            )
            print(f"{importer.name}: {made.relative_error:.1%} of the change lost")
            if self.finish is not None:
                self.finish(made.folder, folder)
            out.mkdir(parents=True, exist_ok=True)
            shutil.copytree(made.folder, out, dirs_exist_ok=True)


def _save_tuned(folder: Path, learning: Mapping[str, Tensor], scratch: Path) -> Path:
    """The base's checkpoint with the tuned parameters in it."""
    checkpoint, target = Checkpoint(folder), scratch / "tuned"
    target.mkdir()
    shutil.copy(folder / "config.json", target)
    tensors = {name: checkpoint[name] for name in checkpoint.names}
    for name, parameter in learning.items():
        tensors[name] = parameter.detach().to("cpu", tensors[name].dtype).contiguous()
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target
