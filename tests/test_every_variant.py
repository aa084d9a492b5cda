"""Every variant at once, on each device there is: rows of a mixed batch as alone, devices alike, memory back."""

from __future__ import annotations

import gc
from functools import partial
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from peft import AdaLoraConfig, IA3Config, LoraConfig, VeraConfig
from transformers import AutoModelForCausalLM

from adapter_hub import Settings
from adapter_hub.ops.composition import Composition
from adapter_hub.testing import assert_rows_as_alone, logits, random_ids

from .models import dense_logits, peft_logits, save_adapter
from .plugins.test_native_variants import CASES as NATIVE
from .plugins.test_peft_types import CASES as TYPES
from .plugins.test_peft_types import make_case

# PEFT on saved embeddings, and on what it changes in a config
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
IA3 = Path(__file__).parents[1] / "plugins" / "adapter-hub-ia3" / "adapter_hub_ia3.py"
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
PEFT = {
    "lora": LoraConfig(r=4, target_modules=ALL),
    "embedding": LoraConfig(r=4, target_modules=["q_proj", "embed_tokens"], modules_to_save=["norm", "lm_head"]),
    "tokens": LoraConfig(r=2, target_modules=["up_proj"], trainable_token_indices=[5, 70]),
    # Invoked by the letter r, which every prompt here has.
    "alora": LoraConfig(r=4, target_modules=ALL, alora_invocation_tokens=[85], task_type="CAUSAL_LM"),
    "dora": LoraConfig(r=4, use_dora=True, target_modules=ALL),
    "adalora": AdaLoraConfig(init_r=6, lora_alpha=12, total_step=10, target_modules=ALL),
    "vera": VeraConfig(r=8, target_modules=ALL),
    "ia3": IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
}
ON_LLAMA = [case for case, (kind, *_) in TYPES.items() if kind == "llama"]
NAMES = [*PEFT, *ON_LLAMA, *NATIVE]
WEIGHTS = [name for name in NAMES if name != "alora"]  # it acts from some token on, which no weights can


@pytest.fixture
def open_hub(open_hub):
    """IA3 is a distribution of its own, which need not be installed: its module is brought along."""
    installed = "ia3" in {entry.name for entry in entry_points(group="adapter_hub")}
    return partial(open_hub, plugins=() if installed else [("ia3", _ia3())])


def _ia3():
    spec = spec_from_file_location("adapter_hub_ia3", IA3)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def adapters(bases, tmp_path_factory):
    root = tmp_path_factory.mktemp("cuda")
    for name, config in PEFT.items():
        save_adapter(bases(), root / name, config)
    for name in ON_LLAMA:
        make_case(name, bases(), root / name)
    for name, make in NATIVE.items():
        make(root / name)
    return root


def _loaded(hub, adapters):
    for name in NAMES:
        hub.load_adapter(adapters / name, name)
    return hub


@on_cuda
def test_every_variant_equals_the_cpu_in_float32(adapters, open_hub):
    slow, fast = (_loaded(open_hub(device=device), adapters) for device in ("cpu", "cuda"))
    rows = [None, *NAMES]
    ids = random_ids(len(rows))
    expected, found = (logits(hub, rows, ids).cpu() for hub in (slow, fast))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=on_cuda)])
@pytest.mark.parametrize("quantization", [None, "nf4"])
@pytest.mark.parametrize("path", ["auto", "reference"])
def test_rows_of_a_mixed_batch_are_as_alone(path, quantization, device, adapters, open_hub):
    settings = Settings(mixed_path=path)
    hub = _loaded(open_hub(device=device, quantization=quantization, dtype="float32", settings=settings), adapters)
    assert_rows_as_alone(hub, [None, *NAMES, None])


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=on_cuda)])
@pytest.mark.parametrize(
    "settings", [{}, {"max_resident": 3, "max_rows": 5, "max_batch_tokens": 8, "patience": 4}], ids=str
)
def test_requests_of_every_variant_are_as_alone(settings, device, adapters, open_hub):
    hub = open_hub(device=device, settings=Settings(**settings))
    for name in NAMES:
        hub.register(name, adapters / name)
    jobs = [(f"prompt of {name} {k}", name) for k in range(2) for name in [None, *NAMES]]
    alone = [hub.generate(prompt, adapter=name, max_new_tokens=12).token_ids for prompt, name in jobs]
    together = hub.generate([prompt for prompt, _ in jobs], adapters=[name for _, name in jobs], max_new_tokens=12)
    assert [completion.token_ids for completion in together] == alone


@pytest.fixture(scope="module")
def dequantised(bases, tmp_path_factory):
    """The tiny base in float32, its linears but the head as bitsandbytes rounds them to NF4."""
    model = AutoModelForCausalLM.from_pretrained(bases(), dtype=torch.float32)
    for path, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and path != "lm_head":
            packed, state = quantize_4bit(module.weight.data, blocksize=64, compress_statistics=True, quant_type="nf4")
            module.weight.data = dequantize_4bit(packed, state)
    folder = tmp_path_factory.mktemp("dequantised")
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=on_cuda)])
def test_merged_weights_answer_as_the_dense_oracle_and_as_the_factors(
    device, adapters, dequantised, open_hub, tmp_path
):
    hub = _loaded(open_hub(device=device, quantization="nf4", dtype="float32"), adapters)
    ids, weights = random_ids(1), _weights(hub)
    bare = logits(hub, [None], ids)
    for name in WEIGHTS:
        factors = logits(hub, [name], ids)
        if name in NATIVE:
            expected = dense_logits(dequantised, NATIVE[name](tmp_path / name), ids)
        else:
            expected = peft_logits(dequantised, adapters / name, ids)
        report = hub.merge(name)
        merged = logits(hub, [name], ids)
        torch.testing.assert_close(merged.cpu(), expected, atol=1e-4, rtol=0, msg=lambda text: f"{name}: {text}")  # noqa: B023
        torch.testing.assert_close(merged, factors, atol=1e-4, rtol=0)
        assert (merged - bare).abs().max() > 0.05
        assert report.merged_sites + len(report.kept_sites) == hub.info(name).sites
        assert not torch.equal(merged, factors) or not report.merged_sites, "the factors path was run"
        assert all("is not merged" in why for why in report.kept_sites.values()), (name, report.kept_sites)
    assert set(hub.memory().merged) == {f"{name}@1" for name in WEIGHTS}
    assert_rows_as_alone(hub, [None, *NAMES, None])
    hub.unload()
    assert hub.memory().merged == {}
    assert torch.equal(logits(hub, [None], ids), bare)
    assert all(torch.equal(weight, weights[name]) for name, weight in _weights(hub).items())


@pytest.mark.parametrize("quantization", [None, "nf4"])
def test_merged_in_16_bit_each_variant_is_as_near_to_float32_as_its_factors_are(quantization, adapters, open_hub):
    hub, exact = (
        _loaded(open_hub(quantization=quantization, dtype=dtype), adapters) for dtype in ("bfloat16", "float32")
    )
    for name in WEIGHTS:
        report = hub.merge_report(name, ["a prompt: 42"])
        assert hub.memory().merged == {}, "what was not merged before is not afterwards"
        assert report.greedy_agreement > 0.9, (name, report)
        ids = random_ids(2)
        expected, factors = logits(exact, [name] * 2, ids), logits(hub, [name] * 2, ids)
        hub.merge(name)
        merged = logits(hub, [name] * 2, ids)
        hub.unmerge(name)
        far, near = ((found.float() - expected).norm() / expected.norm() for found in (factors, merged))
        assert near < max(2e-2, 1.25 * far), (name, near, far)


def _weights(hub):
    return {name: weight.clone() for name, weight in hub.model.state_dict().items()}


@on_cuda
def test_the_base_comes_back_bit_for_bit_and_memory_with_it(adapters, open_hub):
    hub = open_hub(device="cuda", quantization="nf4")
    ids = random_ids(2)
    bare = logits(hub, [None, None], ids)
    gc.collect()
    before = torch.cuda.memory_allocated()
    for _ in range(3):
        _loaded(hub, adapters)
        logits(hub, ["lora", "dora"], ids)
        hub.set_adapter("vera")
        hub.generate("a prompt", max_new_tokens=4)
        hub.set_adapter(None)
        hub.unload()
    assert torch.equal(logits(hub, [None, None], ids), bare)
    gc.collect()
    assert torch.cuda.memory_allocated() == before


def test_nothing_of_a_mixed_batch_outlives_its_adapters(adapters, open_hub):
    hub = _loaded(open_hub(), adapters)
    logits(hub, ["lora", "dora", None], random_ids(3))
    assert _compositions()
    hub.unload()
    assert not _compositions()


def _compositions():
    gc.collect()
    return [thing for thing in gc.get_objects() if type(thing) is Composition]


@on_cuda
def test_resident_bytes_are_what_the_device_gives(adapters, open_hub):
    hub = open_hub(device="cuda", quantization="nf4")
    hub.load_adapter(adapters / "dora", "dora")  # the first adapter at a site brings the site's table of slots
    gc.collect()
    before = torch.cuda.memory_allocated()
    hub.load_adapter(adapters / "lora", "lora")
    gc.collect()
    taken = torch.cuda.memory_allocated() - before
    stated = hub.memory().adapters["lora@1"]
    # The allocator rounds each tensor up to 512 bytes.
    assert stated <= taken <= stated + 512 * 2 * 14
