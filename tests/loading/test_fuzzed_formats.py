"""Other tools' files that somebody damaged: refused by the name of what is wrong, or served with nobody else harmed."""

from __future__ import annotations

import json
import shutil
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from adapter_hub import AdapterHub, Settings
from adapter_hub.errors import AdapterError, CorruptFile, UnsafeFile
from adapter_hub.loading import AdapterLoader
from adapter_hub.loading.files import read_pickle
from adapter_hub.plugin_manager import load_plugins
from adapter_hub.testing import logits, random_ids
from plugins.gguf_export import GgufExport

from ..models import peft_logits, save_adapter
from .stage import KIND, SECONDS, Stage
from .test_fuzzed_files import NESTED
from .test_fuzzed_tensors import CHANGES

EXAMPLES = settings(max_examples=40, deadline=None, derandomize=True)
PREFIX, WEIGHTS = "base_model.model.", "adapter_model.safetensors"
MLX = {"fine_tune_type": "lora", "num_layers": 2, "model": "", "lora_parameters": {"rank": 4, "scale": 1.5}}
ADAPTERHUB = {
    "config": {"architecture": "lora", "r": 4, "alpha": 6, "composition_mode": "add", "attn_matrices": ["q"]},
    "model_type": "qwen2",
    "version": "adapters.1.3.0",
}
OPTIONS = {"state_dict": {"lora_alpha": 6}}
SAFE = ("mlx", "kohya", "state_dict", "adapterhub", "shards")
CONFIGURED = ("mlx", "adapterhub", "shards")
# What a refusal may quote beside the path of a file: values of settings that stand for it.
NAMED = (
    "is an adapter of type",
    "the adapter was trained on",
    "module",
    "lora_alpha",
    "alpha_pattern",
    "modules_to_save",
)


class Tools(Stage):
    """The stage with one adapter in the formats of other tools."""

    def __init__(self, base: Path, root: Path) -> None:
        self.root = root
        config = LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "k_proj", "down_proj"])
        self.source = save_adapter(base, root / "source", config)
        self.ids = random_ids(1)
        self.expected_logits = peft_logits(base, self.source, self.ids)
        self.hub = AdapterHub.from_pretrained(base, quantization=None, settings=Settings())
        self.loader = AdapterLoader(load_plugins(), Settings())
        self.originals = self._written()
        self.hub.load_adapter(save_adapter(base, root / "good", config, seed=9))
        self.before = self._state()

    def copy_of(self, name: str) -> Path:
        folder = self.root / "shown"
        shutil.rmtree(folder, ignore_errors=True)
        return shutil.copytree(self.originals[name], folder)

    def _written(self) -> dict[str, Path]:
        tensors = {name.removeprefix(PREFIX): t for name, t in load_file(self.source / WEIGHTS).items()}
        modules = sorted({name.partition(".lora_")[0] for name in tensors})
        halves = {module: [tensors[f"{module}.lora_{half}.weight"] for half in "AB"] for module in modules}
        made = {name: self.root / name for name in (*SAFE, "gguf")}
        for folder in made.values():
            folder.mkdir()
        mlx, kohya, adapterhub = {}, {}, {}
        for module, (A, B) in halves.items():
            flat = "lora_te_" + module.replace(".", "_")
            mlx |= {f"{module}.lora_a": A.T, f"{module}.lora_b": B.T}
            kohya |= {f"{flat}.lora_down.weight": A, f"{flat}.lora_up.weight": B, f"{flat}.alpha": torch.tensor(6.0)}
            adapterhub |= {f"{module}.loras.x.lora_A": A, f"{module}.loras.x.lora_B": B}
        _save(made["mlx"] / "adapters.safetensors", mlx)
        (made["mlx"] / "adapter_config.json").write_text(json.dumps(MLX))
        _save(made["kohya"] / "x.safetensors", kohya)
        _save(made["state_dict"] / "x.safetensors", tensors)
        _save(made["adapterhub"] / "adapter.safetensors", adapterhub)
        (made["adapterhub"] / "adapter_config.json").write_text(json.dumps(ADAPTERHUB))
        table = {PREFIX + name: f"part-{k % 2}.safetensors" for k, name in enumerate(sorted(tensors))}
        for file in set(table.values()):
            _save(made["shards"] / file, {n: tensors[n.removeprefix(PREFIX)] for n in table if table[n] == file})
        (made["shards"] / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": table}))
        shutil.copy(self.source / "adapter_config.json", made["shards"])
        loaded = self.loader.load(self.loader.fetch(str(self.source)), self.hub.base)
        GgufExport().write(loaded, self.hub.base, made["gguf"], rank=None, record={})
        return made


def _save(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, path)


@pytest.fixture(scope="module")
def tools(bases, tmp_path_factory) -> Iterator[Tools]:
    made = Tools(bases(KIND), tmp_path_factory.mktemp("tools"))
    yield made
    made.close()


@pytest.mark.parametrize("kind", [*SAFE, "gguf"])
def test_what_is_damaged_below_is_right_before(tools: Tools, kind):
    folder = tools.copy_of(kind)
    assert tools.hold(folder, oracle=False, options=OPTIONS.get(kind)) is None
    tools.hub.load_adapter(folder, "shown", options=OPTIONS.get(kind))
    found = logits(tools.hub, ["shown"], tools.ids)
    tools.hub.remove("shown")
    torch.testing.assert_close(found, tools.expected_logits, atol=1e-4, rtol=0)


@EXAMPLES
@given(data=st.data(), kind=st.sampled_from(SAFE))
def test_changed_tensors_are_refused_by_name_or_served(tools: Tools, data, kind):
    folder = tools.copy_of(kind)
    path = data.draw(st.sampled_from(sorted(folder.glob("*.safetensors"))))
    tensors = load_file(path)
    for change in data.draw(st.lists(st.sampled_from(CHANGES), min_size=1, max_size=2)):
        if tensors:
            change(data.draw, tensors, data.draw(st.sampled_from(sorted(tensors))))
    _save(path, tensors)
    tools.hold(folder, oracle=False, named=NAMED, options=OPTIONS.get(kind))


@EXAMPLES
@given(data=st.data(), kind=st.sampled_from(sorted({*SAFE, "gguf"})))
def test_damaged_bytes_are_refused_by_name_or_served(tools: Tools, data, kind):
    folder = tools.copy_of(kind)
    path = data.draw(st.sampled_from(sorted(folder.iterdir())))
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content[data.draw(st.integers(0, min(len(content), 2000) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    path.write_bytes(content)
    tools.hold(folder, oracle=False, named=NAMED, options=OPTIONS.get(kind))


@EXAMPLES
@given(data=st.data(), kind=st.sampled_from(CONFIGURED))
def test_settings_of_any_value_are_refused_by_name_or_served(tools: Tools, data, kind):
    folder = tools.copy_of(kind)
    path = data.draw(st.sampled_from(sorted(folder.glob("*.json"))))
    config = json.loads(path.read_text())
    inner = data.draw(st.sampled_from([config, *(value for value in config.values() if isinstance(value, dict))]))
    field = data.draw(st.sampled_from([*sorted(inner), "a_setting_of_tomorrow"]))
    inner[field] = data.draw(NESTED)
    path.write_text(json.dumps(config))
    tools.hold(folder, oracle=False, named=(*NAMED, field))


@EXAMPLES
@given(options=st.dictionaries(st.sampled_from(["lora_alpha", "use_rslora", "r", "x"]), NESTED, max_size=3))
def test_options_of_any_value_are_refused_by_name_or_used(tools: Tools, options):
    named = (*NAMED, "the option", "use_rslora", *options)
    tools.hold(tools.copy_of("state_dict"), oracle=False, named=named, options=options)


@pytest.fixture(scope="module")
def pickles(tmp_path_factory) -> dict[str, bytes]:
    """What LitGPT and torchtune save, as bytes by the names of their files."""
    folder = tmp_path_factory.mktemp("pickles")
    halves = {"a": torch.randn(2, 64), "b": torch.randn(64, 2)}
    own = {f"layers.{k}.attn.q_proj.lora_{h}.weight": t for k in range(2) for h, t in halves.items()}
    torch.save(own, folder / "adapter_model.pt")
    lit = {f"transformer.h.0.attn.proj.lora_{h.upper()}": t for h, t in halves.items()}
    torch.save({"model": lit}, folder / "lit_model.pth.lora")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@EXAMPLES
@given(data=st.data())
def test_damaged_pickles_are_refused_by_the_files_name_or_read(pickles, tmp_path_factory, data):
    name = data.draw(st.sampled_from(sorted(pickles)))
    content = bytearray(pickles[name])
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("fuzz") / name
    path.write_bytes(content)
    begun = time.process_time()
    try:
        tensors = read_pickle(path, allowed=True, within="model")
    except AdapterError as refused:
        said = str(refused)
    else:
        said = f"{path} was read"
        assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())
    assert str(path) in said
    assert time.process_time() - begun < SECONDS


def test_a_pickle_that_would_run_code_or_fill_all_memory_is_refused(tmp_path):
    class Loud:
        def __reduce__(self):
            return exec, ("raise SystemExit('code of the file ran')",)

    torch.save({"a": Loud()}, tmp_path / "code.pt")
    with pytest.raises(UnsafeFile, match=r"code\.pt holds more than tensors"):
        read_pickle(tmp_path / "code.pt", allowed=True)
    torch.save({"a": torch.zeros(1 << 22)}, tmp_path / "whole.pt")
    with (
        zipfile.ZipFile(tmp_path / "whole.pt") as whole,
        zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for entry in whole.infolist():
            packed.writestr(entry.filename, whole.read(entry))
    assert (tmp_path / "packed.pt").stat().st_size < 1 << 17
    with pytest.raises(CorruptFile, match="is compressed"):
        read_pickle(tmp_path / "packed.pt", allowed=True)
    one = torch.zeros(1 << 20)
    torch.save({str(k): one for k in range(100)}, tmp_path / "shared.pt")
    with pytest.raises(CorruptFile, match="claim more than 4 times"):
        read_pickle(tmp_path / "shared.pt", allowed=True)
