"""Files that other tools wrote, against the logits of those tools' own models (``tool_files/README.md``)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from adapter_hub.errors import BaseMismatch
from adapter_hub.testing import assert_rows_as_alone, logits

from ..models import peft_logits
from .tool_files.base import IDS, save_drawn_adapter
from .tool_files.make_gguf import CASES as GGUF

FILES = Path(__file__).parent / "tool_files"
ANY_ALPHA = {"lora_alpha": 6}
# File, kind of base, format, variant, and what its user states.
CASES = {
    "mlx-lora": ("mlx-lora", "llama", "mlx", "lora", {}),
    "mlx-dora": ("mlx-dora", "llama", "mlx", "dora", {}),
    "litgpt-qv": ("litgpt-qv", "llama", "litgpt", "lora", {}),
    "litgpt-all": ("litgpt-all", "llama", "litgpt", "lora", {}),
    "litgpt-phi3": ("litgpt-phi3", "phi3", "litgpt", "lora", {}),
    "litgpt-gpt_neox": ("litgpt-gpt_neox", "gpt_neox", "litgpt", "lora", {}),
    "litgpt-old": ("litgpt-old", "llama", "litgpt", "lora", {}),
    "torchtune-lora": ("torchtune-lora", "llama", "peft", "lora", {}),
    "torchtune-dora": ("torchtune-dora", "llama", "peft", "dora", {}),
    "torchtune-qwen2": ("torchtune-qwen2", "qwen2", "peft", "lora", {}),
    "torchtune-lora-own": ("torchtune-lora/adapter_model.pt", "llama", "torchtune", "lora", ANY_ALPHA),
    "torchtune-dora-own": ("torchtune-dora/adapter_model.pt", "llama", "torchtune", "dora", ANY_ALPHA),
    "torchtune-qwen2-own": ("torchtune-qwen2/adapter_model.pt", "qwen2", "torchtune", "lora", ANY_ALPHA),
    "kohya": ("kohya.safetensors", "llama", "kohya", "lora", {}),
    "adapters-lora": ("adapters-lora", "llama", "adapterhub", "lora", {}),
    "adapters-dora": ("adapters-dora", "llama", "adapterhub", "dora", {}),
    "adapters-gpt2": ("adapters-gpt2", "gpt2", "adapterhub", "lora", {}),
    "adapters-ia3": ("adapters-ia3", "llama", "adapterhub", "ia3", {}),
}


@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_the_tool(case, open_drawn, tmp_path):
    name, kind, container, variant, options = CASES[case]
    path = FILES / name
    if case.endswith("-own"):  # without the export beside it, for which the file would stand
        path = Path(shutil.copy(path, tmp_path))
    hub = open_drawn(kind)
    expected = load_file(FILES / "expected" / f"{case.removesuffix('-own')}.safetensors")["logits"]
    info = hub.load_adapter(path, "a", allow_base_mismatch=True, options=options)
    assert (info.format, info.variant) == (container, variant)
    ids = torch.tensor(IDS)
    torch.testing.assert_close(logits(hub, ["a"], ids), expected, atol=2e-4, rtol=0)
    assert (logits(hub, [None], ids) - expected).abs().max() > 0.5, "the file must change the logits to prove anything"
    assert_rows_as_alone(hub, ["a", None, "a"])


@pytest.mark.parametrize("case", GGUF)
@pytest.mark.filterwarnings("ignore::UserWarning")  # PEFT on Conv1D and on embeddings
def test_a_gguf_file_is_the_adapter_that_llama_cpp_converted(case, open_drawn, tmp_path):
    kind, modules, dtype = GGUF[case]
    hub = open_drawn(kind)
    source = save_drawn_adapter(Path(hub.base.name), tmp_path / "source", r=2, lora_alpha=6, target_modules=modules)
    ids = torch.tensor(IDS)
    expected = peft_logits(Path(hub.base.name), source, ids)
    path = FILES / "gguf" / f"{case}.gguf"
    with pytest.raises(BaseMismatch, match="trained on org/tiny"):
        hub.register("a", path)
    info = hub.load_adapter(path, "a", allow_base_mismatch=True)
    assert info.format == "gguf"
    assert "rsLoRA" in info.warnings[0]
    lost = {"f32": 1e-4, "bf16": 0.05, "q8_0": 0.1}[dtype]
    torch.testing.assert_close(logits(hub, ["a"], ids), expected, atol=lost, rtol=0)
    assert (logits(hub, [None], ids) - expected).abs().max() > 0.5
    assert_rows_as_alone(hub, ["a", None])
