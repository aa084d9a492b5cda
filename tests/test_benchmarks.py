"""The benchmark for GPUs runs, on whatever is at hand, and so does what others measure: it would break unseen."""

from __future__ import annotations

import torch
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM

from benchmarks import answers, gpu, memory, mixed, turns

from .models import VOCABULARY, save_adapter


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


def test_rates_are_of_each_side_and_of_each_in_terms_of_those_before_it():
    runs = {"base": iter((9, 2, 4, 4)), "peft": iter((9, 8, 8, 8)), "hub": iter((9, 4, 4, 4))}
    times = turns.take_turns({name: lambda it=it: float(next(it)) for name, it in runs.items()}, 3)
    assert times == {"base": [2, 4, 4], "peft": [8, 8, 8], "hub": [4, 4, 4]}, "the first turn warms up"
    rates = {"base_tokens_per_second": 8, "peft_tokens_per_second": 4, "hub_tokens_per_second": 8}
    assert turns.rates(times, 32) == {**rates, "peft_over_base": 0.5, "hub_over_base": 1, "hub_over_peft": 2}


def test_steps_and_answers_of_the_hub_and_peft_are_checked_and_timed(bases, open_hub, tmp_path, monkeypatch):
    def prompts(rows, seed=1):
        return torch.randint(3, VOCABULARY, (rows, turns.PROMPT), generator=torch.Generator().manual_seed(seed))

    for module in (answers, mixed):
        monkeypatch.setattr(module, "prompts", prompts)
    monkeypatch.setattr(mixed, "CONTEXT", 16)
    for name, value in {"ROWS": 7, "SHORT": 2, "LONG": 5}.items():
        monkeypatch.setattr(answers, name, value)
    hub, config = open_hub(), LoraConfig(r=4, target_modules="all-linear")
    paths = [save_adapter(bases(), tmp_path / f"a{k}", config, seed=k) for k in range(7)]
    peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(bases()), paths[0], adapter_name="a0").eval()
    for k, path in enumerate(paths):
        hub.load_adapter(path, f"a{k}")
        if k:
            peft.load_adapter(path, f"a{k}")
    ours, theirs = mixed.Side.of_hub(hub), mixed.Side.of_peft(peft)
    assert mixed.check(ours, theirs)["hub_vs_peft"] < 1e-4
    cases = mixed.time_cases(ours, theirs, 1, [(2, 1), (4, 2)])
    assert [sorted(found) for found in cases.values()] == [["2 rows, 1 adapters", "4 rows, 2 adapters"]] * 2
    assert "hub_over_one_at_a_time" in cases["decode"]["4 rows, 2 adapters"]
    found = answers.time_answers(hub, open_hub(), peft, 3)
    agree = {name: count for name, count in found["answers"].items() if name.startswith("first_tokens")}
    assert set(agree.values()) == {7}
    assert found["answers"]["hub_over_peft"] > 0
    assert found["decoding in answers"].keys() == found["answers"].keys() - agree.keys()


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
