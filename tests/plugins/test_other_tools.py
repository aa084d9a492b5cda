"""Details of other tools' formats, on files laid out by hand and held to PEFT's logits for the same adapter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from adapter_hub.errors import CorruptFile, ShapeMismatch, UnknownFormat, UnsafeFile, UnsupportedFeature
from adapter_hub.testing import logits

from ..models import dense_logits, peft_logits, save_adapter
from .test_tool_files import FILES

PREFIX, WEIGHTS = "base_model.model.", "adapter_model.safetensors"
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # PEFT on embeddings


def pairs_of(adapter: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    tensors = {name.removeprefix(PREFIX): tensor for name, tensor in load_file(adapter / WEIGHTS).items()}
    found = {}
    for name, A in tensors.items():
        if name.endswith(".lora_A.weight"):
            found[name.removesuffix(".lora_A.weight")] = A, tensors[name.replace("lora_A", "lora_B")]
        elif name.endswith(".lora_embedding_A"):
            found[name.removesuffix(".lora_embedding_A")] = A, tensors[name.replace("bedding_A", "bedding_B")]
    return found


def save_mlx(folder: Path, tensors: dict[str, torch.Tensor], **config: object) -> Path:
    folder.mkdir(exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "adapters.safetensors")
    fields = {"fine_tune_type": "lora", "lora_parameters": {"rank": 4, "scale": 1.5}, **config}
    (folder / "adapter_config.json").write_text(json.dumps(fields))
    return folder


def as_mlx(pairs: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {f"{path}.lora_{half}": t.T for path, pair in pairs.items() for half, t in zip("ab", pair, strict=True)}


@pytest.fixture
def lora(bases, tmp_path):
    return save_adapter(bases("llama"), tmp_path / "lora", LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj"]))


def test_mlx_weights_of_one_step_are_named_by_their_path(lora, bases, open_hub, tmp_path, ids):
    folder = save_mlx(tmp_path / "mlx", {"model.norm.weight": torch.zeros(64)})
    step = folder / "0000100_adapters.safetensors"
    save_file({name: t.contiguous() for name, t in as_mlx(pairs_of(lora)).items()}, step)
    hub = open_hub()
    info = hub.load_adapter(step, "a")
    assert (info.format, info.folder) == ("mlx", str(step))
    torch.testing.assert_close(logits(hub, ["a"], ids), peft_logits(bases("llama"), lora, ids), atol=1e-4, rtol=0)


def test_an_mlx_pair_at_a_tied_embedding_changes_the_head_too(bases, open_hub, tmp_path, ids):
    config = LoraConfig(r=4, lora_alpha=6, target_modules=["embed_tokens"], ensure_weight_tying=True)
    adapter = save_adapter(bases("llama-tied"), tmp_path / "lora", config)
    A, B = pairs_of(adapter)["model.embed_tokens"]
    change = 1.5 * (B @ A).T
    hub = open_hub("llama-tied")
    hub.load_adapter(save_mlx(tmp_path / "mlx", as_mlx({"model.embed_tokens": (A, B)})), "a")
    expected = dense_logits(bases("llama-tied"), {"model.embed_tokens.weight": change}, ids)
    torch.testing.assert_close(logits(hub, ["a"], ids), expected, atol=1e-3, rtol=1e-4)


def test_mlx_parameters_tuned_whole_are_served_whole(bases, open_hub, tmp_path, ids):
    change = {"model.layers.1.mlp.up_proj.weight": torch.full((128, 64), 0.01), "model.norm.weight": torch.ones(64)}
    own = load_file(bases("llama") / "model.safetensors")
    folder = save_mlx(tmp_path / "mlx", {n: own[n] + t for n, t in change.items()}, fine_tune_type="full")
    hub = open_hub()
    assert hub.load_adapter(folder, "a").variant == "tuned_weights"
    torch.testing.assert_close(logits(hub, ["a"], ids), dense_logits(bases("llama"), change, ids), atol=1e-3, rtol=1e-4)


def test_the_original_of_a_conversion_for_mlx_is_not_known(lora, open_hub, tmp_path):
    tensors = as_mlx(pairs_of(lora))
    info = open_hub().register("a", save_mlx(tmp_path / "mlx", tensors, model="mlx-community/Llama-4bit"))
    assert "mlx-community/Llama-4bit, a conversion" in info.warnings[0]


@pytest.mark.parametrize(
    ("tensors", "config", "error", "said"),
    [
        ({"a.lora_a": torch.ones(64, 4)}, {"fine_tune_type": "prefix"}, UnsupportedFeature, "fine_tune_type='prefix'"),
        (
            {"a.lora_a": torch.ones(64, 4)},
            {"lora_parameters": {"alpha": 16}},
            UnsupportedFeature,
            "no number for scale",
        ),
        ({"a.switch_mlp.lora_a": torch.ones(4, 2, 8)}, {}, UnsupportedFeature, "switch_mlp.lora_a .* stacked"),
        (
            {"model.embed_tokens.lora_a": torch.ones(96, 4), "model.embed_tokens.lora_b": torch.ones(4, 64)},
            {"fine_tune_type": "dora"},
            UnsupportedFeature,
            "model.embed_tokens.* a magnitude for each token",
        ),
    ],
)
def test_what_mlx_means_otherwise_is_refused_by_name(tensors, config, error, said, open_hub, tmp_path):
    with pytest.raises(error, match=said):
        open_hub().register("a", save_mlx(tmp_path / "mlx", tensors, **config))


def test_a_folder_of_mlx_without_weights_is_incomplete(open_hub, tmp_path):
    (save_mlx(tmp_path / "mlx", {"a": torch.ones(1)}) / "adapters.safetensors").unlink()
    with pytest.raises(CorruptFile, match=r"no adapters\.safetensors"):
        open_hub().register("a", tmp_path / "mlx")


def change_json(path: Path, **inner: object) -> None:
    config = json.loads(path.read_text())
    for name, value in inner.items():
        (config if name in config else config["config"])[name] = value
    path.write_text(json.dumps(config))


def test_adapterhubs_scale_was_left_out_before_version_1_1(open_drawn, tmp_path):
    folder = shutil.copytree(FILES / "adapters-lora", tmp_path / "old")
    change_json(folder / "adapter_config.json", version="adapters.1.0.1")
    hub = open_drawn("llama")
    hub.load_adapter(folder, "old", allow_base_mismatch=True)
    change_json(folder / "adapter_config.json", version="adapters.1.3.0", alpha=2)
    hub.load_adapter(shutil.copytree(folder, tmp_path / "new"), "new", allow_base_mismatch=True)
    ids = torch.tensor([[5, 17, 60]])
    assert torch.equal(logits(hub, ["old"], ids), logits(hub, ["new"], ids))


@pytest.mark.parametrize(
    ("inner", "said"),
    [
        ({"use_gating": True}, "use_gating=True, a gate"),
        ({"vera_d": 0.1}, "vera_d=0.1, its own form"),
        ({"architecture": "prefix_tuning"}, "architecture 'prefix_tuning'"),
        ({"composition_mode": "scale"}, "tensor .*lora_A of .* is none that this kind"),
    ],
)
def test_what_adapterhub_has_of_its_own_is_refused_by_name(inner, said, open_hub, tmp_path):
    folder = shutil.copytree(FILES / "adapters-lora", tmp_path / "a")
    change_json(folder / "adapter_config.json", **inner)
    with pytest.raises(UnsupportedFeature, match=said):
        open_hub().register("a", folder)


@pytest.fixture
def phi3(open_drawn, tmp_path):
    """Pairs of q, v, gate and up of a Phi-3, as torchtune keeps them, and what they add to the fused weights."""
    generator = torch.Generator().manual_seed(3)
    own = {"attn.q_proj": (32, 32), "attn.v_proj": (16, 32), "mlp.w1": (48, 32), "mlp.w3": (48, 32)}
    tensors, change = {}, {}
    for layer in range(2):
        deltas = {}
        for module, (rows, columns) in own.items():
            A, B = (torch.randn(s, generator=generator) * 0.2 for s in ((2, columns), (rows, 2)))
            tensors |= {f"layers.{layer}.{module}.lora_{h}.weight": t for h, t in (("a", A), ("b", B))}
            deltas[module] = 3.0 * B @ A
        path = f"model.layers.{layer}"
        qkv = [deltas["attn.q_proj"], torch.zeros(16, 32), deltas["attn.v_proj"]]
        change[f"{path}.self_attn.qkv_proj.weight"] = torch.cat(qkv)
        change[f"{path}.mlp.gate_up_proj.weight"] = torch.cat([deltas["mlp.w1"], deltas["mlp.w3"]])
    torch.save(tensors, tmp_path / "adapter_model.pt")
    base = Path(open_drawn("phi3").base.name)
    return tmp_path / "adapter_model.pt", dense_logits(base, change, torch.tensor([[5, 17, 60]]))


def test_torchtunes_parts_are_joined_where_the_base_fuses_them(phi3, open_hub, open_drawn):
    path, expected = phi3
    with pytest.raises(UnsafeFile, match="allow_pickle"):
        open_hub().register("a", path)
    hub = open_drawn("phi3")
    assert hub.load_adapter(path, "a", options={"lora_alpha": 6}).ranks == (4,)
    torch.testing.assert_close(logits(hub, ["a"], torch.tensor([[5, 17, 60]])), expected, atol=1e-3, rtol=1e-4)


def test_parts_of_another_shape_are_refused(phi3, open_drawn):
    path, _ = phi3
    tensors = torch.load(path)
    name = "layers.0.attn.v_proj.lora_b.weight"
    torch.save({**tensors, name: tensors[name][:-1]}, path)
    with pytest.raises(ShapeMismatch, match=r"qkv_proj has tensors of \[2, 32\] and \[15, 2\], 16 rows in the base"):
        open_drawn("phi3").register("a", path, options={"lora_alpha": 6})
    torch.save({**tensors, "layers.0.attn.q_proj.magnitude": torch.ones(32)}, path)
    with pytest.raises(UnsupportedFeature, match=r"q_proj\.lora_magnitude_vector: this base has"):
        open_drawn("phi3").register("a", path, options={"lora_alpha": 6})


def test_an_export_of_torchtunes_that_nothing_marks_as_such_is_doubted(open_drawn, tmp_path):
    for case, kind, said in (
        ("torchtune-qwen2", "qwen2", "put the adapter_model.pt"),
        ("torchtune-dora", "llama", "taken for what torchtune writes"),
    ):
        folder = shutil.copytree(FILES / case, tmp_path / case)
        (folder / "adapter_model.pt").unlink()
        assert said in open_drawn(kind).register(case, folder).warnings[0]
    plain = shutil.copytree(FILES / "torchtune-lora", tmp_path / "plain")
    (plain / "adapter_model.pt").unlink()
    assert open_drawn("llama").register("plain", plain).warnings == ()


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda folder: (folder / "hyperparameters.yaml").unlink(), CorruptFile, "no hyperparameters.yaml"),
        (lambda folder: state(folder, "lora_alpha"), UnsupportedFeature, "lora_alpha"),
        (lambda folder: state(folder, "lora_query", "lora_value"), CorruptFile, "none of q, k and v was trained"),
        (lambda folder: state(folder, "lora_value"), ShapeMismatch, r"attn.qkv .* 1 parts of \[32\] rows"),
        (lambda folder: keep(folder, "lora_A"), CorruptFile, "is no half of a pair"),
    ],
)
def test_what_litgpt_leaves_open_is_refused_by_name(change, error, said, open_drawn, tmp_path):
    folder = shutil.copytree(FILES / "litgpt-qv", tmp_path / "a")
    change(folder)
    with pytest.raises(error, match=said):
        open_drawn("llama").register("a", folder, allow_base_mismatch=True)


def state(folder: Path, *gone: str) -> None:
    path = folder / "hyperparameters.yaml"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith(gone)))


def keep(folder: Path, part: str) -> None:
    path = folder / "lit_model.pth.lora"
    torch.save({"model": {n: t for n, t in torch.load(path)["model"].items() if part in n}}, path)


def test_litgpts_alpha_can_be_stated_where_its_hyperparameters_are_cut(open_drawn, tmp_path):
    folder = shutil.copytree(FILES / "litgpt-qv", tmp_path / "a")
    state(folder, "lora_alpha")
    hub = open_drawn("llama")
    hub.load_adapter(folder, "a", allow_base_mismatch=True, options={"lora_alpha": 6})
    expected = load_file(FILES / "expected" / "litgpt-qv.safetensors")["logits"]
    torch.testing.assert_close(
        logits(hub, ["a"], torch.tensor([[5, 17, 60, 9, 88, 31, 5, 44]])), expected, atol=2e-4, rtol=0
    )


def test_a_config_of_no_tool_is_no_adapter(open_hub, tmp_path):
    for config in ({}, {"r": 4}, {"config": None}, {"model": "x"}):
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        with pytest.raises(UnknownFormat):
            open_hub().register("a", tmp_path)
