"""A hub that hostile adapters are shown to, and the law that holds whatever is in them."""

from __future__ import annotations

import copy
import json
import math
import resource
import shutil
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from peft import (
    AdaLoraConfig,
    BOFTConfig,
    C3AConfig,
    FourierFTConfig,
    HRAConfig,
    IA3Config,
    LNTuningConfig,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    MissConfig,
    OFTConfig,
    PeftConfig,
    PeftModel,
    PeftModelForCausalLM,
    RandLoraConfig,
    RoadConfig,
    ShiraConfig,
    VBLoRAConfig,
    VeraConfig,
)
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from adapter_hub import AdapterHub, Settings
from adapter_hub.errors import AdapterHubError, NotRegistered, PluginError
from adapter_hub.loading import AdapterLoader, inspect_folder
from adapter_hub.plugin_manager import load_plugins
from adapter_hub.testing import logits, random_ids
from plugins.native_folder import write_folder

from ..every import ia3_plugins
from ..models import save_adapter
from ..plugins.test_native_variants import CASES

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
KIND = "qwen2"  # a base with biases
MODULES = ["q_proj", "up_proj", "down_proj"]
SECONDS, BYTES = 5.0, 1 << 30
NATIVE = {"lora_drop": "lora_drop", "delta_lora": "delta_lora-pair", "one-bit": "delta_lora-signs"}
PEFT_TYPES = {
    "alora": LoraConfig(
        r=4, target_modules=MODULES, alora_invocation_tokens=[9], task_type="CAUSAL_LM", alpha_pattern={"q_proj": 3}
    ),
    "loha": LoHaConfig(r=4, alpha=6, target_modules=MODULES, alpha_pattern={"up.proj": 9}),
    "lokr": LoKrConfig(r=2, alpha=3, target_modules=MODULES),
    "lokr-whole": LoKrConfig(r=64, alpha=30, target_modules=MODULES, rank_pattern={"q_proj": 2}),
    "oft": OFTConfig(oft_block_size=16, target_modules=["embed_tokens", *MODULES], bias="oft_only"),
    "oft-exact": OFTConfig(oft_block_size=8, target_modules=MODULES, use_cayley_neumann=False, coft=True, eps=0.5),
    "boft": BOFTConfig(boft_block_size=8, target_modules=MODULES, bias="boft_only"),
    "hra": HRAConfig(r=4, target_modules=MODULES),
    "hra-orthogonal": HRAConfig(r=3, target_modules=MODULES, apply_GS=True),
    "road": RoadConfig(group_size=16, target_modules=MODULES, variant="road_4"),
    "miss": MissConfig(r=8, target_modules=MODULES, bias="all"),
    "miss-bat": MissConfig(r=8, target_modules=MODULES, init_weights="bat"),
    "shira": ShiraConfig(r=4, target_modules=MODULES),
    "c3a": C3AConfig(block_size=16, target_modules=MODULES),
    "fourierft": FourierFTConfig(n_frequency=50, target_modules=MODULES),
    "vblora": VBLoRAConfig(target_modules=MODULES, num_vectors=20, vector_length=32),
    "vblora-topk": VBLoRAConfig(
        target_modules=MODULES, num_vectors=20, vector_length=32, topk=3, save_only_topk_weights=True
    ),
    "randlora": RandLoraConfig(r=6, target_modules=MODULES, bias="randlora_only"),
    "ln-tuning": LNTuningConfig(target_modules=["norm", "input_layernorm"]),
}
# What a file lacks, PEFT draws for these; for the others it leaves the module as the base has it.
STARTS_AT_RANDOM = ("HRA", "C3A", "FOURIERFT", "VBLORA")
DRAWN = ("vera-drawn", "randlora-drawn")
VARIANTS = ("lora", "tokens", "dora", "adalora", "vera", "ia3", *PEFT_TYPES, *DRAWN, *NATIVE, "tuned")


def _variants() -> dict[str, Any]:
    """One configuration of PEFT for each way in which a file can be laid out."""
    pattern = {r"layers\.[0-9]+\.mlp\.up_proj": 7, "q_proj": 3}
    return {
        "lora": LoraConfig(
            r=4, lora_alpha=12, target_modules=["embed_tokens", *MODULES], alpha_pattern=pattern, bias="lora_only"
        ),
        "tokens": LoraConfig(
            r=4, target_modules=MODULES, trainable_token_indices=[9, 4, 50], modules_to_save=["norm"], use_rslora=True
        ),
        "dora": LoraConfig(r=4, lora_alpha=12, target_modules=["embed_tokens", *MODULES], use_dora=True),
        "adalora": AdaLoraConfig(init_r=6, lora_alpha=12, total_step=10, target_modules=MODULES),
        "vera": VeraConfig(r=8, target_modules=MODULES, bias="vera_only"),
        "ia3": IA3Config(target_modules=MODULES, feedforward_modules=["down_proj"]),
        **PEFT_TYPES,
        "vera-drawn": VeraConfig(r=8, target_modules=MODULES, save_projection=False, projection_prng_key=9),
        "randlora-drawn": RandLoraConfig(r=6, target_modules=MODULES, save_projection=False, projection_prng_key=9),
    }


class Stage:
    """A hub with one good adapter on it; holds the law for any other."""

    def __init__(self, base: Path, root: Path) -> None:
        self.root = root
        self.model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT on saved embeddings and projections that are not
            self.originals = {name: save_adapter(base, root / name, config) for name, config in _variants().items()}
        for name, case in NATIVE.items():
            CASES[case](root / name)
            self.originals[name] = root / name
        self.originals["tuned"] = _tuned(base, root / "tuned")
        assert tuple(self.originals) == VARIANTS
        self.ids = random_ids(1)
        self.ids[0, 3], self.ids[0, 7] = 9, 50
        self.hub = AdapterHub.from_pretrained(base, quantization=None, settings=Settings(), plugins=ia3_plugins())
        self.loader = AdapterLoader(load_plugins(ia3_plugins()), Settings())
        self.hub.load_adapter(save_adapter(base, root / "good", LoraConfig(r=4, target_modules=MODULES), seed=9))
        self.before = self._state()

    def close(self) -> None:
        self.loader.close()
        self.hub.close()

    def copy_of(self, name: str) -> Path:
        """A fresh folder with an adapter's two files."""
        folder = self.root / "shown"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for original in (config_in(self.originals[name]), weights_in(self.originals[name])):
            shutil.copyfile(original, folder / original.name)
        return folder

    def hold(
        self,
        folder: Path,
        *,
        named: tuple[str, ...] = (),
        oracle: bool = True,
        options: dict[str, Any] | None = None,
    ) -> AdapterHubError | None:
        """Show a folder to the hub: it is refused by name, or served rightly, and nobody else notices.

        Args:
            folder: what to load.
            named: further words, one of which a refusal may quote instead of the folder, a tensor or a setting.
            oracle: whether PEFT may be asked too.
            options: what its user states.

        Returns:
            The refusal, or None.
        """
        begun, peak = time.process_time(), _peak_bytes()
        unseen = self._refused_unseen(folder)
        refused = None
        try:
            self.hub.load_adapter(folder, "shown", options=options)
            took = time.process_time() - begun
            self._hold_served(folder, oracle)
        except AdapterHubError as error:
            refused, took = error, time.process_time() - begun
        finally:
            with suppress(NotRegistered):
                self.hub.remove("shown")
        assert took < SECONDS
        assert _peak_bytes() - peak < BYTES
        assert not isinstance(unseen, PluginError), unseen
        if refused is not None:
            self._hold_named(refused, folder, named)
        assert self._state() == self.before
        return refused

    def _refused_unseen(self, folder: Path) -> AdapterHubError | None:
        try:
            inspect_folder(self.loader.fetch(str(folder)).folder, self.loader)
        except AdapterHubError as error:
            return error
        return None

    def _hold_named(self, refused: AdapterHubError, folder: Path, named: tuple[str, ...]) -> None:
        assert not isinstance(refused, PluginError), refused
        said = str(refused)
        assert len(said) < 5000
        assert said.encode(), "it can be printed"
        words = [
            str(folder),
            "tensor",
            "the setting",
            "the field",
            "the group",
            "of the config",
            "the config",
            *self.hub.base.sites,
            *named,
        ]
        assert any(word in said for word in words), said

    def _hold_served(self, folder: Path, oracle: bool) -> None:
        served = logits(self.hub, ["shown"], self.ids)
        mixed = logits(self.hub, ["good", "shown", None], self.ids.repeat(3, 1))
        alone = [logits(self.hub, [name], self.ids) for name in ("good", None)]
        torch.testing.assert_close(mixed[[0, 2]], torch.cat(alone)[..., : mixed.shape[-1]], atol=1e-4, rtol=0)
        expected = self.expected(folder) if oracle else None
        if expected is not None:
            torch.testing.assert_close(served, expected, atol=1e-3, rtol=1e-3)

    def served(self, folder: Path) -> torch.Tensor:
        """The hub's logits for an adapter that it serves."""
        self.hub.load_adapter(folder, "shown")
        found = logits(self.hub, ["shown"], self.ids)
        self.hub.remove("shown")
        return found

    def expected(self, folder: Path) -> torch.Tensor | None:
        """PEFT's logits, where PEFT uses every tensor and the numbers are none that only rounding decides."""
        if not (folder / CONFIG).is_file():
            return None
        tensors = load_file(folder / WEIGHTS)
        if any(t.numel() and t.float().abs().max() > 10 for t in tensors.values()):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                config = PeftConfig.from_pretrained(folder)
                kind = PeftModelForCausalLM if config.task_type == "CAUSAL_LM" else PeftModel
                model = kind(copy.deepcopy(self.model), config)
                loaded = model.load_adapter(folder, "default")
            except Exception:  # what PEFT cannot load, it cannot judge
                return None
            drawn = model.peft_config["default"].peft_type in STARTS_AT_RANDOM and loaded.missing_keys
            if loaded.unexpected_keys or drawn:
                return None
            with torch.inference_mode():
                found = model.eval()(self.ids).logits
        return found if math.isfinite(found.sum()) else None

    def _state(self) -> tuple[Any, ...]:
        memory = {**self.hub.memory().as_dict(), "process": 0}
        memory["stacked"] = 0  # stacks stay for the next adapter when one goes; stack_bytes limits them
        memory["tiers"] = [(tier["name"], tier["used"], tier["entries"]) for tier in memory["tiers"]]  # not the counts
        seen = [logits(self.hub, [name], self.ids).numpy().tobytes() for name in (None, "good")]
        return self.hub.adapters(), memory, self.hub.active_adapter, seen


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def config_in(folder: Path) -> Path:
    return folder / (CONFIG if (folder / CONFIG).is_file() else "adapter.json")


def weights_in(folder: Path) -> Path:
    return folder / (WEIGHTS if (folder / WEIGHTS).is_file() else "adapter.safetensors")


def _tuned(base: Path, folder: Path) -> Path:
    """Parameters of one block whole, and a table's change in low rank."""
    parts = {
        n: t + 0.01 for n, t in load_file(base / "model.safetensors").items() if "layers.1.mlp" in n or "norm" in n
    }
    parts |= {"model.embed_tokens.delta_A": torch.full((2, 64), 0.1), "model.embed_tokens.delta_B": torch.ones(96, 2)}
    write_folder(folder, "tuned_weights", parts, {"relative_error": 0.25})
    return folder


def change_config(folder: Path, **changes: Any) -> None:
    path = config_in(folder)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
