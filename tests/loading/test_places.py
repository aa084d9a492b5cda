"""Adapters that lie in a folder of the folder: PEFT's multi-adapter save, trainers' checkpoints, a lone file."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from adapter_hub import Settings
from adapter_hub.errors import CorruptFile, SourceNotFound, UnknownFormat, UnsafeFile
from adapter_hub.testing import logits

from ..models import peft_logits, save_adapter

WEIGHTS, INDEX = "adapter_model.safetensors", "adapter_model.safetensors.index.json"


@pytest.fixture
def adapter(bases, tmp_path):
    return save_adapter(bases("llama"), tmp_path / "adapter", LoraConfig(r=4, target_modules="all-linear"))


@pytest.fixture
def checkpoints(adapter, tmp_path):
    """What a trainer leaves: three checkpoints with its own state beside the adapter; the first is the best."""
    root = tmp_path / "out"
    for step in (9, 10, 100):
        folder = shutil.copytree(adapter, root / f"checkpoint-{step}")
        tensors = load_file(folder / WEIGHTS)
        save_file({name: tensor * step / 9 for name, tensor in tensors.items()}, folder / WEIGHTS)
        torch.save({"state": {}, "object": object}, folder / "optimizer.pt")
        (folder / "rng_state.pth").write_bytes(b"never opened")
        (folder / "training_args.bin").write_bytes(b"never opened")
        state = {"best_model_checkpoint": "/elsewhere/out/checkpoint-9" if step > 9 else None, "log_history": []}
        (folder / "trainer_state.json").write_text(json.dumps(state))
    return root


def test_a_checkpoint_is_read_and_what_lies_beside_the_adapter_is_not(checkpoints, open_hub, bases, ids):
    hub = open_hub()
    info = hub.load_adapter(checkpoints / "checkpoint-9", "a")
    assert info.warnings == ()
    expected = peft_logits(bases("llama"), checkpoints / "checkpoint-9", ids)
    torch.testing.assert_close(logits(hub, ["a"], ids), expected, atol=1e-4, rtol=0)


def test_of_several_checkpoints_the_best_that_the_trainer_recorded_is_taken(checkpoints, open_hub):
    hub = open_hub()
    info = hub.register("a", checkpoints)
    assert info.folder == str(checkpoints / "checkpoint-9")
    assert info.source == str(checkpoints)
    assert "checkpoint-9 is taken, the best of 3" in info.warnings[0]


def test_without_a_record_the_last_is_taken_by_its_number(checkpoints, open_hub):
    (checkpoints / "checkpoint-100" / "trainer_state.json").unlink()
    info = open_hub().register("a", checkpoints)
    assert info.folder == str(checkpoints / "checkpoint-100")
    assert "the last of 3" in info.warnings[0]


def test_what_was_registered_stays_when_training_goes_on(checkpoints, open_hub, tmp_path):
    registry = tmp_path / "registry.sqlite3"
    open_hub(registry=registry).register("a", checkpoints)
    shutil.copytree(checkpoints / "checkpoint-10", checkpoints / "checkpoint-11")
    (checkpoints / "checkpoint-100" / "trainer_state.json").write_text("{}")
    hub = open_hub(registry=registry)
    hub.set_adapter("a")
    assert hub.info("a").folder == str(checkpoints / "checkpoint-9")


@pytest.mark.parametrize(
    ("state", "error", "said"),
    [
        ('{"best_model_checkpoint": "out/checkpoint-50"}', UnknownFormat, "not checkpoint-50, which .* records"),
        ("{", CorruptFile, "trainer_state.json cannot be read"),
    ],
)
def test_a_record_that_leads_nowhere_is_refused(state, error, said, checkpoints, open_hub):
    (checkpoints / "checkpoint-100" / "trainer_state.json").write_text(state)
    with pytest.raises(error, match=said):
        open_hub().register("a", checkpoints)


def test_a_folder_of_several_adapters_is_refused_with_their_names(bases, open_hub, tmp_path):
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(bases("llama")), LoraConfig(r=2), adapter_name="one")
    model.add_adapter("two", LoraConfig(r=4))
    model.save_pretrained(tmp_path / "both")
    hub = open_hub()
    with pytest.raises(UnknownFormat, match="holds 2 adapters: one, two"):
        hub.register("a", tmp_path / "both")
    assert hub.register("a", tmp_path / "both" / "two").ranks == ()
    shutil.rmtree(tmp_path / "both" / "one")
    assert hub.register("a", tmp_path / "both").folder == str(tmp_path / "both" / "two")


def test_an_adapter_of_the_folder_itself_wins_over_its_checkpoints(adapter, checkpoints, open_hub):
    for name in ("adapter_config.json", WEIGHTS):
        shutil.copy(adapter / name, checkpoints)
    assert open_hub().register("a", checkpoints).folder == str(checkpoints)


def test_the_weights_of_a_folder_stand_for_the_folder(adapter, open_hub):
    info = open_hub().register("a", adapter / WEIGHTS)
    assert (info.format, info.folder) == ("peft", str(adapter))


def test_a_folder_of_too_much_is_not_searched(tmp_path, open_hub):
    for k in range(1001):
        (tmp_path / f"{k}").mkdir()
    with pytest.raises(UnknownFormat, match="1001 files and folders lie in it"):
        open_hub().register("a", tmp_path)


def test_what_is_neither_a_folder_nor_a_file_is_not_found(tmp_path, open_hub):
    with pytest.raises(SourceNotFound, match="does not exist"):
        open_hub().register("a", tmp_path / "x.gguf")
    (tmp_path / "notes.txt").write_text("no adapter")
    with pytest.raises(UnknownFormat, match=r"notes.txt holds no adapter .*it is a file"):
        open_hub().register("a", tmp_path / "notes.txt")


def test_a_whole_model_is_told_from_an_adapter(tmp_path, open_hub):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(UnknownFormat, match="It looks like a whole model: adapter-hub add --tuned-from"):
        open_hub().register("a", tmp_path)


@pytest.fixture
def shards(adapter):
    """The same adapter in two files with an index."""
    tensors = load_file(adapter / WEIGHTS)
    names = sorted(tensors)
    files = {f"adapter_model-0000{k + 1}-of-00002.safetensors": names[k::2] for k in range(2)}
    for file, own in files.items():
        save_file({name: tensors[name] for name in own}, adapter / file)
    (adapter / WEIGHTS).unlink()
    table = {name: file for file, own in files.items() for name in own}
    (adapter / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": table}))
    return adapter


def test_shards_are_read_together(shards, open_hub, ids):
    hub = open_hub()
    digest = hub.load_adapter(shards, "a").digest
    sharded = logits(hub, ["a"], ids)
    table = json.loads((shards / INDEX).read_text())["weight_map"]
    whole = {name: tensor for file in set(table.values()) for name, tensor in load_file(shards / file).items()}
    save_file(whole, shards / WEIGHTS)
    hub.remove("a")
    assert hub.load_adapter(shards, "a").digest != digest
    assert torch.equal(logits(hub, ["a"], ids), sharded)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder, table: (folder / min(table.values())).unlink(), r"00001-of-00002.safetensors"),
        (lambda _, table: table.update(extra=min(table.values())), r"tensor extra is not in .*00001-of"),
        (lambda _, table: table.pop(min(table)), r"is not listed there by .*index.json"),
        (lambda _, table: table.update(extra="../x.safetensors"), r"index.json names '\.\./x.safetensors'"),
        (lambda _, table: table.update(extra=5), r"index.json has no table weight_map"),
    ],
)
def test_shards_that_do_not_fit_their_index_are_refused(spoil, said, shards, open_hub):
    index = json.loads((shards / INDEX).read_text())
    spoil(shards, index["weight_map"])
    (shards / INDEX).write_text(json.dumps(index))
    with pytest.raises(CorruptFile, match=said):
        open_hub().register("a", shards)


def test_pickled_weights_are_read_where_they_are_allowed(adapter, bases, open_hub, ids):
    expected = peft_logits(bases("llama"), adapter, ids)
    torch.save(load_file(adapter / WEIGHTS), adapter / "adapter_model.bin")
    (adapter / WEIGHTS).unlink()
    with pytest.raises(UnsafeFile, match="allow_pickle"):
        open_hub().register("a", adapter)
    hub = open_hub(settings=Settings(allow_pickle=True))
    hub.load_adapter(adapter, "a")
    torch.testing.assert_close(logits(hub, ["a"], ids), expected, atol=1e-4, rtol=0)
