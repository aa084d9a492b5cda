"""Every family: PEFT's LoRA for it has PEFT's logits, alone and in a mixed batch, and leaves the base bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as DEFAULTS
from transformers import BitsAndBytesConfig

from adapter_hub.base.loader import settle_cpu_kernel
from adapter_hub.loading import inspect_folder
from adapter_hub.loading.families import FAMILIES, NUMBER
from adapter_hub.testing import logits, random_ids

from .conftest import load
from .kinds import CONFIGS, KINDS, REMOTE, family_of

# PEFT on Conv1D's weight, which lies the other way round, and on linears that it may not adapt.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
REMOTE_TARGETS = {
    "baichuan": ["W_pack"],
    "internlm": ["q_proj", "v_proj"],
    "internlm2": ["wqkv", "wo", "w1", "w2", "w3"],
    "xverse": ["q_proj", "v_proj"],
    "yi": ["q_proj", "v_proj"],
    "qwen": ["c_attn", "attn.c_proj", "w1", "w2"],
    "chatglm": ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"],
}
# PEFT takes the stacked parameters of experts for linears too; here are those that are.
ALL_LINEAR = {"mixtral": ["q_proj", "k_proj", "v_proj", "o_proj"]}
# Its linears are of a class of their own, which transformers 5.23 does not replace.
NOT_IN_4_BIT = ("falcon", "falcon-groups")
TARGETS = ("default", "all-linear")


def targets_of(kind: str, model, which: str):
    """PEFT's own choice for a family, or what its users name; None where there is none."""
    if which == "all-linear":
        return ALL_LINEAR.get(kind, which)
    return REMOTE_TARGETS.get(kind) or DEFAULTS.get(model.config.model_type)


def save_adapter(base: Path, kind: str, folder: Path, which: str, seed: int = 1) -> Path | None:
    model = load(base)
    targets = targets_of(kind, model, which)
    if targets is None:
        return None
    torch.manual_seed(seed)
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=6, target_modules=targets))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.15 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


@torch.inference_mode()
def oracle(base: Path, adapter: Path, ids: torch.Tensor, **options) -> torch.Tensor:
    model = load(base, **options)
    if options:
        settle_cpu_kernel(model, "exact", torch.float32)
    return PeftModel.from_pretrained(model, adapter).eval()(input_ids=ids).logits


@pytest.mark.parametrize("which", TARGETS)
@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_pefts_and_each_row_of_a_batch_has_its_own(kind, which, kinds, open_kind, tmp_path):
    adapter = save_adapter(kinds(kind), kind, tmp_path / "a", which)
    if adapter is None:
        pytest.skip("PEFT has no targets of its own for this family")
    other = save_adapter(kinds(kind), kind, tmp_path / "b", "all-linear", seed=2)
    hub, ids = open_kind(kind), random_ids(4)
    bare, weights = logits(hub, [None] * 4, ids), {n: p.clone() for n, p in hub.model.named_parameters()}
    hub.load_adapter(adapter, "a")
    hub.load_adapter(other, "b")
    expected = oracle(kinds(kind), adapter, ids)
    torch.testing.assert_close(logits(hub, ["a"] * 4, ids), expected, atol=1e-4, rtol=0)
    assert (expected - bare).abs().max() > 0.05
    names = ["a", None, "b", "a"]
    for tokens in (1, 4, 12):  # as many as rows, too: a shape does not tell then which is which
        mixed = logits(hub, names, ids[:, :tokens])
        for row, name in enumerate(names):
            alone = logits(hub, [name], ids[row : row + 1, :tokens])
            torch.testing.assert_close(mixed[row : row + 1], alone, atol=1e-4, rtol=0)
    hub.unload()
    assert torch.equal(logits(hub, [None] * 4, ids), bare)
    assert all(torch.equal(parameter, weights[name]) for name, parameter in hub.model.named_parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_on_a_base_in_4_bit_too(kind, kinds, open_kind, tmp_path, caplog):
    hub, ids = open_kind(kind, quantization="nf4"), random_ids(2)
    if kind in NOT_IN_4_BIT:
        assert "No linear of the base" in caplog.text
        return
    adapter = save_adapter(kinds(kind), kind, tmp_path / "a", "all-linear")
    bare = logits(hub, [None] * 2, ids)
    hub.load_adapter(adapter, "a")
    plan = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    expected = oracle(kinds(kind), adapter, ids, quantization_config=plan)
    torch.testing.assert_close(logits(hub, ["a"] * 2, ids), expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(logits(hub, ["a", None], ids)[1], bare[1], atol=1e-4, rtol=0)
    hub.unload()
    assert torch.equal(logits(hub, [None] * 2, ids), bare)


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_of_families_has_the_modules_that_there_are(kind, kinds):
    model = load(kinds(kind))
    family = next(family for family in FAMILIES if family.name == family_of(kind))
    assert type(model).__name__ in family.base_classes
    assert model.config.model_type in family.model_types
    kept = {NUMBER.sub("N", path) for path, module in model.named_modules() if list(module.parameters(recurse=False))}
    adapted = {path for path in kept if "norm" not in path and "ln_" not in path}
    assert adapted <= family.modules, "a module of this family is not in the table"


@pytest.mark.parametrize("kind", KINDS)
def test_inspection_tells_which_families_a_file_fits(kind, kinds, tmp_path, open_kind):
    adapter = save_adapter(kinds(kind), kind, tmp_path / "a", "all-linear")
    loader = open_kind("llama")._residents.reader.loader
    fits = inspect_folder(adapter, loader).families
    assert any(name.startswith(f"{family_of(kind)} (") for name in fits)
    if kind in ("baichuan", "phi", "phi3", "gpt2", "gpt_neox", "opt", "chatglm", "qwen", "glm", "internlm2"):
        assert len(fits) == 1
    assert all("bloom" not in name.lower() for name in fits) or kind in ("bloom", "falcon", "falcon-groups")


def test_code_that_a_base_brings_is_not_run_unless_it_is_trusted(kinds):
    from adapter_hub import AdapterHub, Settings
    from adapter_hub.errors import BaseModelError

    with pytest.raises(BaseModelError, match="trust_remote_code"):
        AdapterHub.from_pretrained(kinds("baichuan"), quantization=None, settings=Settings())


def test_every_family_is_tried():
    assert {family_of(kind) for kind in (*CONFIGS, *REMOTE)} == {family.name for family in FAMILIES}
