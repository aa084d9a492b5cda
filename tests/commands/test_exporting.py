"""``compose``, ``export`` and ``convert``."""

from __future__ import annotations

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM as Auto

from .conftest import save_adapter

IDS = torch.arange(3, 15).unsqueeze(0)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """One that PEFT reads too."""
    folder = tmp_path_factory.mktemp("adapters") / "one"
    return save_adapter(folder, seed=1, target_modules=["q_proj", "o_proj"])


def _logits(base, *adapters):
    model = Auto.from_pretrained(base)
    for adapter in adapters:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    with torch.inference_mode():
        return model.eval()(IDS).logits


@pytest.mark.usefixtures("two_added")
def test_adapters_are_composed_and_answer(run, on_base, tmp_path):
    made = run("compose", "mix", "one*0.7+two*0.3", "--tag", "blend", "--into", str(tmp_path / "mix"), *on_base)
    assert (made.code, made.err) == (0, "")
    assert made.out.startswith("mix: cat of 2 adapters, ")
    assert run("list", "--tag", "blend", "--json").json()[0]["folder"] == str(tmp_path / "mix")
    ask = ("--max-new-tokens", "8", "--raw", "--json", *on_base)
    answers = run("generate", "Hi", "--adapter", "mix", "--adapter", "one*0.7+two*0.3", *ask).json()
    assert answers[0]["text"] == answers[1]["text"]
    assert [answer["adapter"] for answer in answers] == ["mix", "one*0.7+two*0.3"]


@pytest.mark.usefixtures("two_added")
def test_a_method_takes_its_options(run, on_base, tmp_path):
    options = ("--option", "density=0.5", "--option", "rank=3", "--option", "majority_sign_method=frequency")
    into = ("--into", str(tmp_path / "mix"))
    made = run("compose", "mix", "one+two", "--method", "ties_svd", *options, "--seed", "3", *into, "--json", *on_base)
    assert made.json()["ranks"] == [3]
    assert made.err.startswith("adapter-hub: warning: the change of the weights is merged with a relative error of 0.")
    record = json.loads((tmp_path / "mix" / "adapter.json").read_text())["composition"]
    assert record["options"] == {"density": 0.5, "rank": 3, "majority_sign_method": "frequency"}


@pytest.mark.usefixtures("two_added")
def test_a_model_is_exported(run, base_folder, adapter, tmp_path):
    flags = ("--base", base_folder, "--quantization", "none")
    ran = run("export", "one", str(tmp_path / "out"), "--dtype", "float32", "--max-shard-size", "50KB", *flags)
    assert (ran.code, ran.err) == (0, f"weights of {base_folder} as it was loaded, in float32\n")
    assert ran.out.startswith(f"{tmp_path / 'out'}: model, ")
    torch.testing.assert_close(_logits(tmp_path / "out"), _logits(base_folder, adapter), atol=1e-4, rtol=0)
    full = ("--base", base_folder, "--full-base", base_folder, "--dtype", "float32")
    ran = run("export", "one*0.5+two*0.5", str(tmp_path / "full"), *full, "--json")
    assert ran.json()["weights"] == f"of the full-precision checkpoint {base_folder}"
    assert len(Auto.from_pretrained(tmp_path / "full").state_dict()) == 21


@pytest.mark.usefixtures("two_added")
def test_an_adapter_is_exported_and_converted_and_its_loss_is_told(run, base_folder, adapter, tmp_path):
    flags = ("--base", base_folder, "--quantization", "none")
    ran = run("export", "one", str(tmp_path / "out"), "--as", "lora", *flags)
    assert (ran.code, ran.err) == (0, "")
    expected = _logits(base_folder, adapter)
    torch.testing.assert_close(_logits(base_folder, tmp_path / "out"), expected, atol=1e-4, rtol=0)
    ran = run("convert", adapter, str(tmp_path / "same"), "--to", "lora", "--base", base_folder)
    assert (ran.code, ran.err) == (0, "")
    torch.testing.assert_close(_logits(base_folder, tmp_path / "same"), expected, atol=1e-4, rtol=0)
    ran = run("convert", adapter, str(tmp_path / "short"), "--to", "lora", "--rank", "2", "--base", base_folder)
    lines = ran.err.splitlines()
    assert lines[0].split() == ["SITE", "KEPT", "AS", "LOST"]
    assert "rank 2 of 4" in lines[1]
    assert lines[-1].endswith("of the change is lost (norm of the error over norm of the change)")
    ran = run("convert", adapter, str(tmp_path / "gguf"), "--to", "gguf", "--base", base_folder)
    assert (ran.code, ran.err) == (0, "")
    back = run("convert", str(tmp_path / "gguf"), str(tmp_path / "back"), "--to", "lora", "--base", base_folder)
    assert (back.code, back.err) == (0, "")
    torch.testing.assert_close(_logits(base_folder, tmp_path / "back"), expected, atol=1e-4, rtol=0)
    told = run("convert", adapter, str(tmp_path / "j"), "--to", "lora", "--rank", "2", "--base", base_folder, "--json")
    assert 0 < told.json()["relative_error"] < 1
    assert [info["name"] for info in run("list", "--json").json()] == ["one", "two"], "convert records nothing"


def test_what_files_do_not_say_is_stated_or_warned_of_when_they_are_converted(run, base_folder, adapter, tmp_path):
    bare = tmp_path / "bare.safetensors"
    tensors = load_file(f"{adapter}/adapter_model.safetensors")
    save_file(tensors, bare)
    to = ("--to", "lora", "--base", base_folder)
    refused = run("convert", str(bare), str(tmp_path / "out"), *to)
    assert (refused.code, "lora_alpha" in refused.err) == (1, True)
    warned = run("convert", str(bare), str(tmp_path / "out"), *to, "--option", "lora_alpha=8")
    assert warned.code == 0
    assert warned.err.startswith("adapter-hub: warning: ")
    assert "use_rslora" in warned.err
    stated = ("--option", "lora_alpha=4", "--option", "use_rslora=true")  # 4 / sqrt(4) = 8 / 4
    told = run("convert", str(bare), str(tmp_path / "same"), *to, *stated, "--json").json()
    assert told["warnings"] == []
    for folder in ("out", "same"):
        torch.testing.assert_close(_logits(base_folder, tmp_path / folder), _logits(base_folder, adapter))


@pytest.mark.usefixtures("two_added")
@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (("compose", "mix", "one*0.5+zero*0.5"), 1, "no adapter is registered as 'zero'"),
        (("compose", "mix", "one*"), 1, "cannot be read"),
        (("compose", "base", "one*1"), 1, "cannot be the name"),
        (("compose", "mix", "one*1", "--option", "density"), 2, "has no value"),
        (("compose", "mix", "one*1", "--method", "cats"), 1, "no way 'cats' to compose"),
        (("export", "zero", "{out}"), 1, "no adapter is registered as 'zero'"),
        (("export", "one", "{out}", "--as", "paper"), 1, "no way to export as 'paper'"),
        (("export", "one", "{out}", "--full-base", "./nowhere"), 1, "nowhere"),
        (("export", "one", "{taken}"), 1, "exists already"),
        (("convert", "{adapter}", "{out}", "--to", "model"), 1, "convert writes adapters"),
        (("convert", "./nowhere", "{out}", "--to", "lora"), 1, "./nowhere does not exist"),
    ],
)
def test_what_cannot_be_is_one_line(argv, code, said, run, on_base, base_folder, adapter, tmp_path):
    (tmp_path / "taken").write_text("mine")
    places = {"out": tmp_path / "out", "taken": tmp_path / "taken", "adapter": adapter}
    given = [text.format(**places) for text in argv]
    flags = on_base if argv[0] == "compose" else ("--base", base_folder)
    ran = run(*given, *flags)
    assert (ran.code, ran.out, ran.err.count("\n")) == (code, "", 1)
    assert said in ran.err
    assert not (tmp_path / "out").exists()
