"""Reading files: what the library reads, and nothing but a clear error for anything else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from adapter_hub.errors import CorruptFile
from adapter_hub.loading.files import read_json, read_pickle, read_safetensors

CASES = {
    "one type": {"b": torch.randn(3, 5), "a": torch.randn(7), "scalar": torch.tensor(2.5)},
    "half": {"a": torch.randn(3, 5).bfloat16(), "b": torch.randn(2, 2).bfloat16()},
    "mixed types": {"a": torch.randn(3), "b": torch.randn(3).half(), "c": torch.arange(5), "d": torch.ones(3).bool()},
    "an odd byte first": {"a": torch.ones(3, dtype=torch.uint8), "b": torch.randn(4)},
    "float8": {"a": torch.randn(4).to(torch.float8_e4m3fn)},
    "empty tensor": {"a": torch.zeros(0, 4), "b": torch.randn(2)},
    "no tensor": {},
}


@pytest.mark.parametrize("case", CASES)
def test_it_reads_what_the_library_reads(case, tmp_path):
    path = tmp_path / "x.safetensors"
    save_file(CASES[case], path, metadata={"format": "pt"})
    found, expected = read_safetensors(path), load_file(path)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert (tensor.dtype, tensor.shape) == (expected[name].dtype, expected[name].shape)
        assert torch.equal(_bits(tensor), _bits(expected[name]))


def _bits(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def test_what_happens_to_the_file_later_changes_nothing(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(64, 64)}, path)
    found = read_safetensors(path)["a"]
    with path.open("r+b") as stream:
        stream.seek(1000)
        stream.write(b"\x01" * 4000)
    assert not found.any()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "x.safetensors"
    save_file(CASES["one type"], path)
    return path


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_read_rightly_or_refused(whole, tmp_path, data):
    content = bytearray(whole.read_bytes())
    match data.draw(st.sampled_from(["cut", "flip", "length", "header"])):
        case "cut":
            content = content[: data.draw(st.integers(0, len(content) - 1))]
        case "flip":
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        case "length":
            content[:8] = data.draw(st.integers(0, 2**64 - 1)).to_bytes(8, "little")
        case "header":
            size = int.from_bytes(content[:8], "little")
            header = json.loads(content[8 : 8 + size])
            name = data.draw(st.sampled_from(sorted(set(header) - {"__metadata__"})))
            field = data.draw(st.sampled_from(["dtype", "shape", "data_offsets"]))
            values = st.one_of(
                st.just("F64"), st.lists(st.integers(-5, 2**63), max_size=3), st.none(), st.text(max_size=4)
            )
            header[name][field] = data.draw(values)
            packed = json.dumps(header).encode()
            content = len(packed).to_bytes(8, "little") + packed + content[8 + size :]
    path = tmp_path / "y.safetensors"
    path.write_bytes(content)
    try:
        found = read_safetensors(path)
    except CorruptFile as refused:
        found, said = None, str(refused)
    if found is None:
        assert str(path) in said
    else:
        assert all(torch.equal(_bits(found[name]), _bits(t)) for name, t in load_file(path).items())


def test_a_config_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "adapter_config.json"
    with path.open("wb") as stream:
        stream.truncate(17 << 20)
    with pytest.raises(CorruptFile, match="more than 4194304"):
        read_json(path)
    with pytest.raises(CorruptFile, match="cannot be read"):
        read_json(Path("/nowhere/x.json"))


def test_two_names_of_one_memory_in_a_pickle_become_two(tmp_path):
    shared = torch.ones(2, 3)
    torch.save({"a": shared, "b": shared.T}, tmp_path / "x.bin")
    found = read_pickle(tmp_path / "x.bin", allowed=True)
    found["a"].mul_(2)
    assert found["b"].is_contiguous()
    assert torch.equal(found["b"], shared.T)
