"""The pages on composing and exporting, run block by block as they stand."""

from __future__ import annotations

import re
import types
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM

from adapter_hub import Settings
from adapter_hub.plugin_manager import load_plugins
from adapter_hub.testing import logits

from ..models import save_adapter

DOCS = Path(__file__).parents[2] / "docs"


def _blocks(page):
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)


REQUEST, KEEP, METHOD = _blocks("composing.md")
MODEL, ADAPTER = _blocks("export.md")


@pytest.fixture
def hub(bases, open_hub, folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    method = types.ModuleType("mean")
    exec(METHOD, method.__dict__)
    hub = open_hub(settings=Settings(cache_dir=str(tmp_path / "cache")), plugins=[("mean", method)])
    for name, folder in zip(("sql", "med"), folders, strict=False):
        hub.register(name, folder)
    dora = LoraConfig(r=4, use_dora=True, target_modules=["q_proj"])
    hub.register("dates", save_adapter(bases(), tmp_path / "dates", dora))
    return hub


def test_composing(hub, ids):
    exec(REQUEST, {"hub": hub})
    exec(KEEP, {"hub": hub})
    assert hub.info("blend").ranks == (16,)
    torch.testing.assert_close(logits(hub, ["mix"], ids), logits(hub, ["sql*0.7+med*0.3"], ids), atol=1e-5, rtol=0)
    hub.compose("half", {"sql": 3.0, "med": 3.0}, "mean")
    torch.testing.assert_close(logits(hub, ["half"], ids), logits(hub, ["sql*0.5+med*0.5"], ids), atol=1e-5, rtol=0)


def test_exporting(hub, ids, tmp_path, capsys):
    exec(MODEL, {"hub": hub})
    with torch.inference_mode():
        found = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "mix")(ids).logits
    torch.testing.assert_close(found, logits(hub, ["sql*0.7+med*0.3"], ids), atol=1e-4, rtol=0)
    exec(ADAPTER, {"hub": hub})
    assert "rank 32 of dense" in capsys.readouterr().out


def test_every_method_and_exporter_is_on_its_page():
    plugins = load_plugins()
    composing, export = ((DOCS / page).read_text() for page in ("composing.md", "export.md"))
    for method in plugins.merge_methods:
        assert f"`{method.name}`" in composing
        assert all(f"`{option}`" in composing for option in method.options)
    for exporter in plugins.exporters:
        assert f'as_="{exporter.name}"' in export
