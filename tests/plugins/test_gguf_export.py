"""GGUF out and in again: the same logits, and the tensors that llama.cpp's own converter writes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import IA3Config, LoraConfig

from adapter_hub.errors import AdapterError, RequestError, UnsupportedFeature
from adapter_hub.testing import logits
from plugins.gguf_export import FILE, GgufExport
from plugins.gguf_file import read_gguf
from plugins.gguf_lora import ALPHA

from ..every import ia3_plugins
from ..models import peft_logits, save_adapter
from .test_peft_types import make_case
from .test_tool_files import FILES
from .tool_files.base import CONFIGS, IDS, save_drawn_adapter
from .tool_files.make_gguf import CASES

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # PEFT on Conv1D and on embeddings

# The converter swaps A and B of a GPT-2, and llama.cpp then refuses its own file.
STRAIGHT_CASES = [case for case, (kind, _, dtype) in CASES.items() if dtype == "f32" and kind != "gpt2"]


def export(hub, adapter: Path, folder: Path, rank: int | None = None) -> Path:
    folder.mkdir()
    loader = hub._residents.reader.loader
    loaded = loader.load(loader.fetch(str(adapter)), hub.base)
    kept = GgufExport().write(loaded, hub.base, folder, rank=rank, record={})
    assert {one.name for one in kept} == set(loaded.updates)
    assert all(one.error == 0 and one.change > 0 for one in kept)
    return folder


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_is_written_reads_back_to_equal_logits(kind, open_drawn, tmp_path):
    hub = open_drawn(kind)
    base = Path(hub.base.name)
    fields = {"r": 4, "lora_alpha": 6, "target_modules": "all-linear", "rank_pattern": {r".*\.1\..*": 2}}
    source = save_drawn_adapter(base, tmp_path / "source", **fields, use_rslora=True)
    expected = peft_logits(base, source, ids := torch.tensor(IDS))
    out = export(hub, source, tmp_path / "out")
    hub.load_adapter(out, "a")
    assert hub.info("a").warnings == (), "every scale is in the file"
    with pytest.raises(RequestError, match="use_rslora=True was stated"):
        hub.register("b", out, options={"use_rslora": True})
    torch.testing.assert_close(logits(hub, ["a"], ids), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", STRAIGHT_CASES)
def test_tensors_are_those_of_llama_cpps_converter(case, open_drawn, tmp_path):
    kind, modules, _ = CASES[case]
    hub = open_drawn(kind)
    source = save_drawn_adapter(Path(hub.base.name), tmp_path / "source", r=2, lora_alpha=6, target_modules=modules)
    fields, tensors = read_gguf(export(hub, source, tmp_path / "out") / FILE)
    theirs, expected = read_gguf(FILES / "gguf" / f"{case}.gguf")
    common = {name for name in fields if name.startswith(("general.", "adapter."))} - {ALPHA}
    assert {name: fields[name] for name in common}.items() <= theirs.items()
    assert tensors.keys() == expected.keys()
    scale = theirs[ALPHA] / fields[ALPHA]  # it is in B here, and in alpha there
    for name, tensor in tensors.items():
        torch.testing.assert_close(tensor, expected[name] * (scale if name.endswith("lora_b") else 1.0), atol=0, rtol=0)


def test_ranks_that_differ_are_written_with_an_alpha_of_0(open_drawn, tmp_path):
    hub = open_drawn("llama")
    fields = {"r": 4, "target_modules": ["q_proj"], "rank_pattern": {r".*\.1\..*": 2}}
    source = save_drawn_adapter(Path(hub.base.name), tmp_path / "source", **fields)
    assert read_gguf(export(hub, source, tmp_path / "out") / FILE)[0][ALPHA] == 0.0


@pytest.mark.parametrize("case", ["loha", "hra", "vblora"])
def test_what_amounts_to_pairs_is_written_as_such(case, bases, open_hub, ids, tmp_path):
    hub = open_hub()
    adapter = make_case(case, bases(), tmp_path / "a")
    hub.load_adapter(export(hub, adapter, tmp_path / "out"), "a")
    torch.testing.assert_close(logits(hub, ["a"], ids), peft_logits(bases(), adapter, ids), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("kind", "config", "said"),
    [
        ("llama", LoraConfig(target_modules=["q_proj"], modules_to_save=["norm"]), "norm: what the adapter does there"),
        ("llama", LoraConfig(target_modules=["q_proj"], use_dora=True), "q_proj: .* out_scale"),
        ("llama", IA3Config(target_modules=["k_proj"], feedforward_modules=[]), "k_proj: what the adapter does there"),
        ("qwen2", LoraConfig(target_modules=["q_proj"], bias="lora_only"), "q_proj: .* bias"),
        ("llama-tied", LoraConfig(target_modules=["embed_tokens"]), "embed_tokens: llama.cpp has no tensor of its own"),
    ],
)
def test_what_llama_cpp_would_leave_out_is_refused_by_site(kind, config, said, bases, open_hub, tmp_path):
    hub = open_hub(kind, plugins=ia3_plugins())
    adapter = save_adapter(bases(kind), tmp_path / "a", config)
    with pytest.raises(UnsupportedFeature, match=said):
        export(hub, adapter, tmp_path / "out")


def test_a_smaller_rank_and_an_unknown_base_are_refused(bases, open_hub, tmp_path):
    hub = open_hub()
    adapter = save_adapter(bases("llama"), tmp_path / "a", LoraConfig(r=4, target_modules=["q_proj"]))
    with pytest.raises(UnsupportedFeature, match="has rank 4, not 2"):
        export(hub, adapter, tmp_path / "out", rank=2)
    hub.base.model.config.model_type = "opt"
    with pytest.raises(AdapterError, match="is a opt"):
        export(hub, adapter, tmp_path / "out2")
