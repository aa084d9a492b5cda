"""Bad adapters: each a clear error that names what is wrong, and a hub that goes on as before."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from adapter_hub import Settings
from adapter_hub.errors import (
    AdapterHubError,
    BaseMismatch,
    CorruptFile,
    NotFinite,
    ShapeMismatch,
    SourceNotFound,
    UnconsumedTensors,
    UnknownFormat,
    UnknownSite,
    UnknownVariant,
    UnsafeFile,
    UnsupportedFeature,
)

from ..models import save_adapter

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture
def adapter(bases, tmp_path) -> Path:
    return save_adapter(bases("llama"), tmp_path / "adapter", LoraConfig(r=4, target_modules=["q_proj", "up_proj"]))


def _config(adapter: Path, **changes) -> None:
    config = json.loads((adapter / CONFIG).read_text())
    (adapter / CONFIG).write_text(json.dumps({**config, **changes}))


def _tensors(adapter: Path, change) -> None:
    tensors = load_file(adapter / WEIGHTS)
    change(tensors)
    save_file(tensors, adapter / WEIGHTS)


def _missing_folder(adapter):
    (adapter / CONFIG).unlink()
    (adapter / WEIGHTS).unlink()
    for other in adapter.iterdir():
        other.unlink()
    adapter.rmdir()


def _truncate(adapter):
    content = (adapter / WEIGHTS).read_bytes()
    (adapter / WEIGHTS).write_bytes(content[: len(content) // 2])


def _pickle(adapter):
    torch.save(load_file(adapter / WEIGHTS), adapter / "adapter_model.bin")
    (adapter / WEIGHTS).unlink()


def _nan(tensors):
    tensors[f"{PREFIX}.lora_A.weight"][1, 2] = float("nan")


def _infinity(tensors):
    tensors[f"{PREFIX}.lora_B.weight"][1, 2] = float("inf")


def _shape(tensors):
    tensors[f"{PREFIX}.lora_A.weight"] = torch.ones(4, 32)


def _more_outputs(tensors):
    tensors[f"{PREFIX}.lora_B.weight"] = torch.ones(96, 4)


def _extra(tensors):
    tensors[f"{PREFIX}.lora_C.weight"] = torch.ones(4)


def _elsewhere(tensors):
    for half in "AB":
        moved = tensors.pop(f"{PREFIX}.lora_{half}.weight")
        tensors[f"{PREFIX.replace('layers.0', 'layers.7')}.lora_{half}.weight"] = moved


def _wrong_bias(tensors):
    tensors["base_model.model.model.norm.weight"] = torch.ones(3)


def _neither(adapter):
    (adapter / CONFIG).unlink()
    (adapter / WEIGHTS).unlink()


CASES = {
    "missing folder": (_missing_folder, SourceNotFound, "does not exist"),
    "no config": (lambda a: (a / CONFIG).unlink(), UnsupportedFeature, "no number for lora_alpha"),
    "neither": (_neither, UnknownFormat, "no adapter that any format recognises"),
    "no weights": (lambda a: (a / WEIGHTS).unlink(), CorruptFile, f"no {WEIGHTS}"),
    "config of nonsense": (lambda a: (a / CONFIG).write_text("{oh"), CorruptFile, CONFIG),
    "config is a list": (lambda a: (a / CONFIG).write_text("[]"), CorruptFile, "list, not a JSON object"),
    "config nests for ever": (lambda a: (a / CONFIG).write_text("[" * 200_000), CorruptFile, CONFIG),
    "truncated weights": (_truncate, CorruptFile, WEIGHTS),
    "empty weights": (lambda a: (a / WEIGHTS).write_bytes(b""), CorruptFile, "0 bytes"),
    "a pickle": (_pickle, UnsafeFile, "is a pickle"),
    "wrong base": (lambda a: _config(a, base_model_name_or_path="org/other"), BaseMismatch, "org/other"),
    "unknown tensor": (lambda a: _tensors(a, _extra), UnconsumedTensors, "lora_C"),
    "missing site": (lambda a: _tensors(a, _elsewhere), UnknownSite, r"layers\.7\.self_attn\.q_proj"),
    "wrong inputs": (lambda a: _tensors(a, _shape), ShapeMismatch, r"q_proj: A is \[4, 32\].*\[4, 64\]"),
    "wrong outputs": (lambda a: _tensors(a, _more_outputs), ShapeMismatch, r"q_proj: B is \[96, 4\].*\[64, 4\]"),
    "wrong vector": (lambda a: _tensors(a, _wrong_bias), ShapeMismatch, r"model\.norm: weight is \[3\]"),
    "not a number": (lambda a: _tensors(a, _nan), NotFinite, r"q_proj\.lora_A\.weight holds 1 value"),
    "infinity": (lambda a: _tensors(a, _infinity), NotFinite, r"q_proj\.lora_B\.weight holds 1 value"),
    "unknown variant": (lambda a: _config(a, peft_type="A_TYPE_OF_TOMORROW"), UnknownVariant, "A_TYPE_OF_TOMORROW"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_adapter_is_refused_and_nothing_is_harmed(case, adapter, bases, open_hub, tmp_path, ids):
    spoil, error, said = CASES[case]
    hub = open_hub()
    good = save_adapter(bases("llama"), tmp_path / "good", LoraConfig(r=4, target_modules=["q_proj"]), seed=9)
    hub.load_adapter(good, "good")
    hub.set_adapter("good")
    before = hub.model(ids).logits
    spoil(adapter)
    for attempt in (hub.register, lambda name, ref: hub.load_adapter(ref, name)):
        with pytest.raises(error, match=said) as caught:
            attempt("bad", adapter)
        assert isinstance(caught.value, AdapterHubError)
        assert caught.value.hint, "an error says what to do"
    assert [info.name for info in hub.adapters()] == ["good"]
    assert torch.equal(hub.model(ids).logits, before)


def test_an_unknown_variant_names_those_known_and_the_hook(adapter, open_hub):
    _config(adapter, peft_type="A_TYPE_OF_TOMORROW")
    with pytest.raises(UnknownVariant, match=r"lora.*adapter_hub_variants"):
        open_hub().register("a", adapter)


def test_a_pickle_is_read_only_where_that_is_allowed(adapter, open_hub):
    expected = open_hub().register("a", adapter)
    _pickle(adapter)
    hub = open_hub(settings=Settings(allow_pickle=True))
    info = hub.register("a", adapter)
    assert (info.sites, info.bytes) == (expected.sites, expected.bytes)


def test_a_pickle_with_code_in_it_is_refused_even_then(adapter, open_hub, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    (adapter / WEIGHTS).unlink()
    (adapter / "adapter_model.bin").write_bytes(pickle.dumps({"x": Bomb()}, protocol=2))
    with pytest.raises(UnsafeFile, match="more than tensors"):
        open_hub(settings=Settings(allow_pickle=True)).register("a", adapter)
    assert not (tmp_path / "exploded").exists()


def test_another_base_is_served_where_the_user_says_so(adapter, open_hub):
    _config(adapter, base_model_name_or_path="org/other")
    assert open_hub().register("a", adapter, allow_base_mismatch=True).base_name == "org/other"
    hub = open_hub(settings=Settings(allow_base_mismatch=True))
    assert hub.load_adapter(adapter, "a").resident


def test_a_base_of_another_revision_is_another_base(adapter, open_hub):
    hub = open_hub()
    _config(adapter, revision="abc123")
    assert hub.register("a", adapter).name == "a", "the base's own revision is not known here"
    hub.base.revision = "def456"
    with pytest.raises(BaseMismatch, match="revision abc123"):
        hub.register("b", adapter)
    hub.base.revision = "abc123ffff"
    assert hub.register("b", adapter).name == "b", "a short commit stands for the long one"


@pytest.mark.parametrize(
    ("recorded", "name", "same"),
    [
        ("org/model", "org/model", True),
        ("org/model", "other/model", False),
        ("/home/u/Model", "org/model", True),
        ("org/model", "/data/model", True),
        ("./model", "/data/other", False),
    ],
)
def test_names_of_bases_compare_as_ids_or_by_their_last_part(recorded, name, same, adapter, open_hub):
    hub = open_hub()
    hub.base.name = name
    _config(adapter, base_model_name_or_path=recorded)
    if same:
        hub.register("a", adapter)
    else:
        with pytest.raises(BaseMismatch):
            hub.register("a", adapter)


def test_an_adapter_that_changes_nothing_is_a_warning(adapter, open_hub, ids):
    def zero(tensors):
        for name in tensors:
            if "lora_B" in name:
                tensors[name].zero_()

    _tensors(adapter, zero)
    hub = open_hub()
    info = hub.load_adapter(adapter, "a")
    assert "changes nothing" in info.warnings[0]
    before = hub.model(ids).logits
    hub.set_adapter("a")
    assert torch.equal(hub.model(ids).logits, before)


def test_sites_that_change_nothing_are_named(adapter, open_hub):
    _tensors(adapter, lambda tensors: tensors[f"{PREFIX}.lora_B.weight"].zero_())
    info = open_hub().register("a", adapter)
    assert info.warnings == ("1 of 4 sites are left unchanged: model.layers.0.self_attn.q_proj.",)
    assert info.sites == 3


def test_a_float16_sum_that_overflows_is_not_taken_for_infinity(adapter, open_hub):
    def large(tensors):
        for name in tensors:
            tensors[name] = torch.full_like(tensors[name], 6e4, dtype=torch.float16)

    _tensors(adapter, large)
    assert open_hub().register("a", adapter).sites == 4


def test_a_file_that_changed_since_it_was_registered_is_not_served(adapter, open_hub):
    hub = open_hub()
    hub.register("a", adapter)
    _tensors(adapter, lambda tensors: tensors[f"{PREFIX}.lora_B.weight"].add_(1))
    with pytest.raises(CorruptFile, match="not what was registered"):
        hub.set_adapter("a")
    assert hub.active_adapter is None
