"""The benchmark for GPUs runs, on whatever is at hand: what runs rarely would otherwise break unseen."""

from __future__ import annotations

from benchmarks import gpu


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
