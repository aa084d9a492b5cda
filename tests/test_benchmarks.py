"""The benchmark for GPUs runs, on whatever is at hand, and so does what others measure: it would break unseen."""

from __future__ import annotations

from peft import LoraConfig

from benchmarks import gpu, memory

from .models import save_adapter


def test_its_check_finds_every_path_right():
    found = gpu.check(new=3)
    assert {"reference", "torch", "triton", "merged"} <= found.keys()
    assert ("graphs captured" in found) == (gpu.DEVICE.type == "cuda")


def test_its_measurements_are_made_for_every_number_of_rows():
    figures = gpu.measure(1, gpu.SMALL, (1, 2), 12, 2**22)
    expected = {"base_ms", "hub_ms", "peft_ms", "base_floor_ms", "hub_floor_ms"}
    expected |= {f"{kind}, {who}, ms" for kind in ("engine", "engine with graphs") for who in ("base", "adapters")}
    assert set(figures["decode"]["1"]) == expected
    assert set(figures["decode"]["2"]) == expected - {"peft_ms"}, "PEFT is run with 1, 8 and 32 rows"
    assert all(value > 0 for found in figures["decode"].values() for value in found.values())


def test_moves_switches_and_bytes_are_measured(bases, open_hub, tmp_path):
    hub, config = open_hub(), LoraConfig(r=4, target_modules="all-linear")
    paths = [save_adapter(bases(), tmp_path / f"a{k}", config, seed=k) for k in range(memory.HELD)]
    for path in paths:
        hub.load_adapter(path)
    assert all(figure > 0 for figure in memory.time_switches(hub, 10).values())
    assert set(memory.time_moves(hub, 4)) == {"merge_ms", "load_from_files_ms", "load_from_host_ms"}
    found = memory.count_bytes(hub, paths)
    assert found["resident_over_tensors"] == 1
    assert found["merged"] == sum(weight.nbytes for weight in _linears(hub))
    assert [tier["name"] for tier in found["tiers"]] == ["disk", "host", "device", "merged"]


def _linears(hub):
    return [hub.base.module(path).weight for path in hub.base.sites if ".layers." in path and "norm" not in path]
