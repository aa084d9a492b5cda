"""Whole tuned checkpoints as adapters: exact, low rank, and in one bit; through the command line as users do it."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapter_hub.cli import main
from adapter_hub.errors import CorruptFile, NotFinite, ShapeMismatch, SourceNotFound, UnsupportedFeature
from adapter_hub.loading import Checkpoint, get_importer, import_tuned, open_checkpoint
from adapter_hub.plugin_manager import load_plugins

from ..models import dense_logits, served

KINDS = ["llama", "llama-tied", "qwen2", "gpt2", "bloom"]
PLUGINS = load_plugins()


def tune(base, folder, only="", size=0.02, seed=3):
    """A copy of a checkpoint with every tensor moved whose name holds ``only``; and by how much."""
    shutil.copytree(base, folder)
    generator, changes = torch.Generator().manual_seed(seed), {}
    tensors = load_file(folder / "model.safetensors")
    for name in sorted(tensors):
        if only in name:
            changes[name] = size * torch.randn(tensors[name].shape, generator=generator)
            tensors[name] += changes[name]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return changes


def _import(way, base, tuned, folder, rank=16):
    importer = get_importer(PLUGINS, way)
    return import_tuned(
        importer, "tuned-checkpoint", Checkpoint(base), Checkpoint(tuned), folder, base_name=str(base), rank=rank
    )


@pytest.mark.parametrize("kind", KINDS)
def test_exact_is_the_tuned_model(kind, bases, open_hub, ids, tmp_path):
    tune(bases(kind), tmp_path / "tuned")
    imported = _import("exact", bases(kind), tmp_path / "tuned", tmp_path / "a")
    assert imported.relative_error == 0
    hub = open_hub(kind)
    hub.load_adapter(tmp_path / "a", "a")
    logits, _ = served(hub, "a", ids, 1)
    torch.testing.assert_close(logits, dense_logits(tmp_path / "tuned", {}, ids), atol=1e-4, rtol=0)


def test_exact_weights_in_16_bit_are_multiplied_in_the_type_of_the_base(bases, open_hub, ids, tmp_path):
    changes = tune(bases(), tmp_path / "tuned", only="layers.1.mlp")
    _import("exact", bases(), tmp_path / "tuned", tmp_path / "a")
    path = tmp_path / "a" / "adapter.safetensors"
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(path).items()}
    save_file(tensors, path)
    base = load_file(bases() / "model.safetensors")
    rounded = {name: tensors[name].float() - base[name] for name in changes}
    hub = open_hub()
    hub.load_adapter(tmp_path / "a", "a")
    torch.testing.assert_close(served(hub, "a", ids, 1)[0], dense_logits(bases(), rounded, ids), atol=1e-4, rtol=0)


def test_freeze_tuning_keeps_the_thawed_block_alone(bases, open_hub, ids, tmp_path):
    changes = tune(bases(), tmp_path / "tuned", only="layers.1.")
    imported = _import("exact", bases(), tmp_path / "tuned", tmp_path / "a")
    assert {one.name for one in imported.kept} == set(changes)
    hub = open_hub()
    assert hub.load_adapter(tmp_path / "a", "a").sites == len(changes)
    torch.testing.assert_close(served(hub, "a", ids, 1)[0], dense_logits(bases(), changes, ids), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["low-rank", "one-bit"])
def test_compressed_changes_are_served_as_they_were_reported(way, kind, bases, open_hub, ids, tmp_path):
    changes = tune(bases(kind), tmp_path / "tuned")
    imported = _import(way, bases(kind), tmp_path / "tuned", tmp_path / "a", rank=8)
    for one in imported.kept:
        change = changes[one.name]
        transposed = kind == "gpt2" and change.dim() == 2 and "wte" not in one.name and "wpe" not in one.name
        if one.form == "one bit":
            rows = change.T if transposed else change
            kept = torch.where(rows >= 0, 1.0, -1.0) * rows.abs().mean(1, keepdim=True)
            kept = kept.T if transposed else kept
        elif one.form == "rank 8":
            U, S, V = torch.linalg.svd(change, full_matrices=False)
            kept = U[:, :8] * S[:8] @ V[:8]
        else:
            assert one.form == "whole"
            kept = change
        assert one.change == pytest.approx(change.norm().item(), rel=1e-4)
        assert one.error == pytest.approx((change - kept).norm().item(), rel=1e-3, abs=1e-4)
        changes[one.name] = kept
    assert 0.3 < imported.relative_error < 0.95
    hub = open_hub(kind)
    warnings = hub.load_adapter(tmp_path / "a", "a").warnings
    assert f"{imported.relative_error:.3g}" in warnings[0]
    torch.testing.assert_close(served(hub, "a", ids, 1)[0], dense_logits(bases(kind), changes, ids), atol=1e-4, rtol=0)


def test_a_low_rank_change_comes_back_whole(bases, tmp_path):
    shutil.copytree(bases(), tmp_path / "tuned")
    tensors = load_file(tmp_path / "tuned" / "model.safetensors")
    for name, tensor in tensors.items():
        if "proj" in name:
            tensor += 0.1 * torch.randn(tensor.shape[0], 3) @ torch.randn(3, tensor.shape[1])
    save_file(tensors, tmp_path / "tuned" / "model.safetensors", metadata={"format": "pt"})
    assert _import("low-rank", bases(), tmp_path / "tuned", tmp_path / "a", rank=3).relative_error < 1e-4


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda t: t.pop("model.norm.weight"), UnsupportedFeature, "model.norm.weight is in .* alone"),
        (lambda t: t.update({"model.norm.weight": torch.ones(65)}), ShapeMismatch, "model.norm.weight"),
        (lambda t: t["model.norm.weight"].fill_(float("nan")), NotFinite, "model.norm.weight"),
        (lambda _: None, UnsupportedFeature, "nothing to add"),
    ],
)
def test_checkpoints_that_do_not_belong_together_are_refused(change, error, said, bases, tmp_path):
    shutil.copytree(bases(), tmp_path / "tuned")
    tensors = load_file(tmp_path / "tuned" / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "tuned" / "model.safetensors")
    with pytest.raises(error, match=said):
        _import("exact", bases(), tmp_path / "tuned", tmp_path / "a")
    assert not (tmp_path / "a").exists()


class TestCheckpoint:
    def test_shards_are_read_through_their_index(self, bases, tmp_path):
        tensors = load_file(bases() / "model.safetensors")
        files = {name: f"model-{k % 2}.safetensors" for k, name in enumerate(sorted(tensors))}
        for file in set(files.values()):
            save_file({n: t for n, t in tensors.items() if files[n] == file}, tmp_path / file)
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
        checkpoint = open_checkpoint(str(tmp_path))
        assert checkpoint.names == sorted(tensors)
        assert all(torch.equal(checkpoint[name], tensor) for name, tensor in tensors.items())

    @pytest.mark.parametrize(
        ("table", "said"),
        [
            ({"weight_map": {"a": "../model.safetensors"}}, "no file beside it"),
            ({"weight_map": {"a": "model.safetensors"}}, "tensor a is not in"),
            ({"weight_map": ["a"]}, "no table weight_map"),
            ({"weight_map": {"a": "elsewhere.safetensors"}}, "cannot be read"),
        ],
    )
    def test_an_index_that_lies_is_refused(self, table, said, bases, tmp_path):
        shutil.copy(bases() / "model.safetensors", tmp_path)
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(table))
        with pytest.raises(CorruptFile, match=said):
            open_checkpoint(str(tmp_path))

    def test_a_folder_without_one_says_so(self, tmp_path):
        with pytest.raises(SourceNotFound, match="holds no checkpoint"):
            open_checkpoint(str(tmp_path))
        with pytest.raises(SourceNotFound, match="neither a folder nor a Hub id"):
            open_checkpoint(str(tmp_path / "nowhere" / "at" / "all"))


def test_the_command_line_adds_a_tuned_checkpoint(bases, tmp_path, capsys):
    tune(bases(), tmp_path / "tuned")
    place = ["--registry", str(tmp_path / "registry.db"), "--cache-dir", str(tmp_path / "cache")]
    command = ["add", "t", str(tmp_path / "tuned"), "--tuned-from", str(bases()), "--quantization", "none", *place]
    assert main([*command, "--keep", "one-bit", "--rank", "4"]) == 0
    told = capsys.readouterr()
    assert "t@1: tuned_weights" in told.out
    assert "of the change lost" in told.err
    assert "one bit" in told.err
    first = tmp_path / "cache" / "imported" / "t"
    before = (first / "adapter.safetensors").read_bytes()
    assert main([*command, "--keep", "low-rank", "--rank", "4"]) == 0
    assert "t@2: tuned_weights" in capsys.readouterr().out
    assert (first / "adapter.safetensors").read_bytes() == before, "the version before can still be served"
    assert (tmp_path / "cache" / "imported" / "t-2" / "adapter.safetensors").is_file()
    assert main([*command, "--keep", "one-bit", "--into", str(first)]) != 0
    assert "exists already" in capsys.readouterr().err
    assert main([*command, "--keep", "by-heart"]) != 0
    assert "one-bit (a sign for each" in capsys.readouterr().err
