"""Exported checkpoints as files: shards, what is left of an export that was cut short, disks that are full."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import weakref
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM as Auto

from adapter_hub.errors import RequestError
from adapter_hub.exporting import shards
from adapter_hub.exporting.merged import MergedModel
from adapter_hub.testing import logits

from .test_model import plain_logits


def test_shards_are_what_transformers_reads_and_no_larger_than_asked(hub, ids, tmp_path):
    exported = hub.export("a", tmp_path / "out", dtype="float32", max_shard_size="60KB")
    files = sorted((tmp_path / "out").glob("model-*.safetensors"))
    assert len(files) > 4
    assert all(path.stat().st_size < 60_000 + 4000 for path in files)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert {*index["weight_map"].values()} == {path.name for path in files}
    assert "model.safetensors" not in exported.files
    torch.testing.assert_close(plain_logits(tmp_path / "out", ids), logits(hub, ["a"], ids), atol=1e-4, rtol=0)
    hub.export("a", tmp_path / "one", dtype="float32")
    one, many = (Auto.from_pretrained(tmp_path / name).state_dict() for name in ("one", "out"))
    assert all(torch.equal(one[name], many[name]) for name in one)


class _Stop(BaseException):
    pass


@pytest.fixture
def interrupted(hub, tmp_path, monkeypatch):
    """An export that was killed in its fourth file; gives the folder that it left and what it was asked."""
    write, count = shards.write_shard, []

    def dying(path, *rest):
        count.append(path)
        if len(count) == 4:
            path.write_bytes(b"half of a file")
            raise _Stop
        return write(path, *rest)

    asked = {"dtype": "float32", "max_shard_size": "60KB"}
    monkeypatch.setattr("adapter_hub.exporting.model.write_shard", dying)
    with pytest.raises(_Stop):
        hub.export("a", tmp_path / "out", **asked)
    monkeypatch.setattr("adapter_hub.exporting.model.write_shard", write)
    (left,) = [path for path in tmp_path.iterdir() if path.name.startswith(".out")]
    return left, asked


def test_a_killed_export_goes_on_where_it_stopped(interrupted, hub, ids, tmp_path):
    left, asked = interrupted
    assert not (tmp_path / "out").exists()
    assert not (left / "config.json").exists(), "nothing that looks whole"
    done = {path.name: path.stat().st_ino for path in left.glob("*.safetensors") if path.stat().st_size > 100}
    assert len(done) == 3
    damaged = min(done)
    (left / damaged).write_bytes((left / damaged).read_bytes()[:-1] + b"x")
    stamps = {name: (left / name).stat().st_mtime_ns for name in done}
    hub.export("a", tmp_path / "out", **asked)
    assert not left.exists()
    for name in sorted(done):
        kept = (tmp_path / "out" / name).stat().st_mtime_ns == stamps[name]
        assert kept == (name != damaged), "intact files are kept, damaged ones written again"
    torch.testing.assert_close(plain_logits(tmp_path / "out", ids), logits(hub, ["a"], ids), atol=1e-4, rtol=0)
    assert not any(path.name.startswith(("export", ".")) for path in (tmp_path / "out").iterdir())


def test_another_export_to_the_same_place_takes_nothing_over(interrupted, hub, ids, tmp_path):
    left, asked = interrupted
    hub.export("b", tmp_path / "out", **asked)
    torch.testing.assert_close(plain_logits(tmp_path / "out", ids), logits(hub, ["b"], ids), atol=1e-4, rtol=0)
    assert left.exists()


def test_one_module_is_in_memory_at_a_time(hub, tmp_path, monkeypatch):
    made, alive = [], []
    values = MergedModel.values

    def watched(self, part):
        alive.append(sum(tensor() is not None for tensor in made))
        found = values(self, part)
        made.extend(weakref.ref(tensor) for tensor in found.values())
        return found

    monkeypatch.setattr(MergedModel, "values", watched)
    hub.export("a", tmp_path / "out", dtype="bfloat16")
    assert len(made) == 21
    assert max(alive) <= 1, "the last one may still be in hand"


def test_a_full_disk_is_noticed_before_and_while_writing(hub, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(RequestError, match=r"takes .* bytes, and .* has 1000 left"):
        hub.export("a", tmp_path / "out")
    assert not list(tmp_path.glob(".out*"))
    monkeypatch.undo()
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limit[1]))  # the system refuses to write on, as on a full disk
    try:
        with pytest.raises(RequestError, match=r"cannot be written: .*File too large.*goes on from there"):
            hub.export("a", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert not (tmp_path / "out").exists()
    hub.export("a", tmp_path / "out")


def test_a_place_that_cannot_be_written_is_told(hub, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("mine")
    for place, said in (
        (tmp_path / "file", "exists already"),
        (tmp_path / "full", "exists already and is no empty folder"),
        (Path("/proc/nowhere/out"), "cannot be written|has 0 left"),
        (tmp_path / "file" / "out", "cannot be"),
    ):
        for form in ("model", "canonical"):
            with pytest.raises(RequestError, match=said):
                hub.export("a", place, form)
    assert (tmp_path / "file").read_text() == "mine"
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["precious"]
    (tmp_path / "empty").mkdir()
    assert hub.export("a", tmp_path / "empty").folder == tmp_path / "empty"
