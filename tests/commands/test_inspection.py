"""``inspect``: the facts of a folder's files."""

import json
import shutil
from pathlib import Path

import pytest

from adapter_hub.commands.inspection import site_lines
from adapter_hub.hookspecs import SiteSummary

from ..plugins.test_tool_files import FILES
from .conftest import save_adapter


def test_the_facts_are_told_without_a_base(run, adapter, monkeypatch):
    monkeypatch.setattr("adapter_hub.hub.load_base", lambda *_, **__: pytest.fail("the base was loaded"))
    ran = run("inspect", adapter)
    assert (ran.code, ran.err) == (0, "")
    told = dict(line.split(maxsplit=1) for line in ran.out.splitlines())
    assert told["folder"] == adapter
    assert told["format"] == "peft"
    assert told["variant"] == "lora"
    assert len(told["digest"]) == 64
    assert told["base"] == "not recorded"
    assert told["sites"] == "rank 4, scale 2, at 4 sites: o_proj q_proj (2 each)"
    assert told["size"] == "8.2 kB in 8 tensors, float32"
    assert "beside" not in told
    assert "refused" not in told


def test_the_base_and_what_the_adapter_brings_are_told(run, tmp_path):
    folder = save_adapter(tmp_path / "a", base_model_name_or_path="org/base", revision="abc")
    (Path(folder) / "chat_template.jinja").write_text("{{ messages }}")
    out = run("inspect", folder).out
    assert "org/base at abc" in out
    assert "chat template" in out


def test_what_would_be_refused_makes_the_exit_code_1(run, tmp_path):
    folder = save_adapter(tmp_path / "a", init_lora_weights="corda")
    ran = run("inspect", folder)
    assert (ran.code, ran.err) == (1, "")
    assert "refused     init_lora_weights='corda'" in ran.out
    as_json = run("inspect", folder, "--json")
    assert as_json.code == 1
    assert len(as_json.json()["refused"]) == 1


def test_an_unknown_type_is_described_as_far_as_possible(run, tmp_path):
    ran = run("inspect", save_adapter(tmp_path / "a", peft_type="ZORP"))
    assert ran.code == 1
    assert "variant     unknown" in ran.out
    assert "ZORP" in ran.out


def test_json_lists_every_site(run, adapter):
    found = run("inspect", adapter, "--json").json()
    assert found["sites"]["model.layers.1.self_attn.o_proj"] == {"rank": 4, "scale": 2.0}
    assert found["refused"] == []


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda _: None, "does not exist"),
        (lambda folder: folder.mkdir(), "no adapter that any format recognises"),
        (lambda folder: (folder.mkdir(), (folder / "adapter_config.json").write_text("{")), "adapter_config.json"),
        (
            lambda folder: (
                folder.mkdir(),
                (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"})),
                (folder / "adapter_model.safetensors").write_bytes(b"torn"),
            ),
            "adapter_model.safetensors",
        ),
    ],
)
def test_files_that_cannot_be_read_are_one_line(run, tmp_path, make, told):
    make(tmp_path / "a")
    ran = run("inspect", str(tmp_path / "a"))
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert told in ran.err


def test_a_hub_repo_is_asked_of_its_source(run, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    ran = run("inspect", "nobody/nothing-at-all", "--offline")
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert "nobody/nothing-at-all" in ran.err


def test_sites_are_summed_up_by_rank_and_scale():
    sites = {f"model.layers.{k}.self_attn.{module}": SiteSummary(8, 2.0) for k in range(30) for module in "qkv"}
    sites |= {"lm_head": SiteSummary(8, 2.0), "model.embed_tokens": SiteSummary(0)}
    assert site_lines(sites) == [
        "rank 8, scale 2, at 91 sites: q k v (30 each), lm_head",
        "no rank at 1 site: embed_tokens",
    ]


def test_a_long_summary_is_cut_and_says_so(run, tmp_path):
    pattern = {f"layers.{k}.": k for k in range(1, 30)}
    folder = Path(save_adapter(tmp_path / "a", alpha_pattern=pattern))
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "adapter_model.safetensors")
    pair = [tensors[f"base_model.model.model.layers.0.self_attn.q_proj.lora_{half}.weight"] for half in "AB"]
    many = {}
    for rank in range(1, 16):
        for half, tensor in zip("AB", pair, strict=True):
            wide = tensor[:1].expand(rank, -1) if half == "A" else tensor[:, :1].expand(-1, rank)
            many[f"base_model.model.model.layers.{rank}.self_attn.q_proj.lora_{half}.weight"] = wide.contiguous()
    save_file(many, folder / "adapter_model.safetensors")
    assert "and 3 more (--json lists all)" in run("inspect", str(folder)).out


def test_it_tells_what_the_file_fits_and_what_it_does_not_say(run, adapter):
    told = dict(line.split(maxsplit=1) for line in run("inspect", adapter).out.splitlines())
    assert told["fits"].startswith("LLaMA (LlamaForCausalLM), Yi (LlamaForCausalLM or YiForCausalLM), Mistral (")
    assert "GPT-2" not in told["fits"]
    gguf = run("inspect", str(FILES / "gguf" / "gpt_neox.gguf"))
    assert (gguf.code, gguf.err) == (0, "")
    assert "format      gguf" in gguf.out
    assert "fits        GPT-NeoX (GPTNeoXForCausalLM)\n" in gguf.out
    assert "warnings    GGUF does not say whether" in gguf.out
    stated = run("inspect", str(FILES / "gguf" / "gpt_neox.gguf"), "--option", "use_rslora=true")
    assert "warnings" not in stated.out
    assert "alpha / sqrt(rank)" in stated.out


def test_weights_alone_are_inspected_with_what_is_stated_of_them(run, adapter, tmp_path):
    bare = str(shutil.copy(Path(adapter) / "adapter_model.safetensors", tmp_path / "bare.safetensors"))
    ran = run("inspect", bare)
    assert ran.code == 1
    assert "refused     the config has no number for lora_alpha" in ran.out
    stated = run("inspect", bare, "--option", "lora_alpha=8")
    assert stated.code == 0
    assert "rank 4, scale 2, at 4 sites" in stated.out
    assert stated.out.splitlines()[3] != ran.out.splitlines()[3], "the digest is of what was stated too"
