"""An adapter and its base as one plain transformers checkpoint in 16 or 32 bit."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import torch
from tqdm import tqdm

from ..base import BaseModel
from ..base.loader import DTYPES
from ..engine import Voice
from ..errors import AdapterError, RequestError
from ..loading import LoadedAdapter
from .card import CARD, Card
from .merged import MergedModel
from .place import hold_free, writing
from .report import Exported
from .shards import Shard, hash_file, plan_shards, size_in_bytes, write_index, write_shard
from .voices import write_voice

STATE = "export-state.json"
LOCK = "export.lock"
SPARE_BYTES = 32 << 20
RESUME = "What is done is kept beside it: the same export goes on from there. "


def export_model(
    adapter: LoadedAdapter,
    base: BaseModel,
    voice: Voice,
    folder: Path,
    card: Card,
    *,
    dtype: str,
    max_shard_size: int | str,
) -> Exported:
    """Write the base with the adapter folded in, its config, generation config, tokenizer, template and card.

    Module by module, so that no whole model need be in memory. What is written lies in a sibling of ``folder``
    until it is whole; a call that failed is taken up by the next one like it, from the last file that is intact.

    Raises:
        RequestError: ``folder`` is taken or cannot be written, the disk has no room, or ``dtype`` is none to export in.
        AdapterError: the adapter cannot be folded into a checkpoint of this architecture.
    """
    hold_free(folder)
    if dtype not in DTYPES:
        raise RequestError(f"dtype is {dtype!r}.", hint=f"Choose {', '.join(DTYPES)}.")
    limit = size_in_bytes(max_shard_size)
    merged = MergedModel(base, adapter.updates, DTYPES[dtype])
    shards = plan_shards(merged.modules(), limit)
    recipe = _recipe(adapter.digest, base.fingerprint, card.weights, _sample(base), dtype, limit)
    part = folder.parent / f".{folder.name}.part-{recipe[:12]}"
    with writing(folder, RESUME):
        _hold_space(part, shards)
        part.mkdir(parents=True, exist_ok=True)
        with _alone(part, folder), _gone_if_refused(part):
            _write_shards(part, shards, merged, folder.name)
            write_index(part, shards)
            _write_configs(part, merged, voice)
            write_voice(part, voice)
            (part / CARD).write_text(card.text(dtype), encoding="utf-8")
            (part / STATE).unlink()
        (part / LOCK).unlink(missing_ok=True)
        part.rename(folder)
    return Exported.of(folder, "model", weights=card.weights)


def _recipe(*facts: object) -> str:
    """What makes two exports the same one."""
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _sample(base: BaseModel) -> str:
    """Tells weights of one base apart that were quantised in different ways."""
    path = next((path for path, site in base.sites.items() if site.kind == "linear"), None)
    return "" if path is None else hashlib.sha256(base.dense_weight(path).cpu().numpy().tobytes()).hexdigest()


@contextmanager
def _alone(part: Path, folder: Path) -> Iterator[None]:
    try:
        with filelock.FileLock(part / LOCK, timeout=0):
            yield
    except filelock.Timeout:
        raise RequestError(f"another export to {folder} is running.", hint="Wait for it.") from None


@contextmanager
def _gone_if_refused(part: Path) -> Iterator[None]:
    """Of an export that will be refused again, nothing is worth keeping."""
    try:
        yield
    except AdapterError:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _hold_space(part: Path, shards: Sequence[Shard]) -> None:
    done = _read_state(part)
    there = next(place for place in part.absolute().parents if place.exists())
    missing = sum(shard.bytes for shard in shards if shard.file not in done) + SPARE_BYTES
    free = shutil.disk_usage(there).free
    if free < missing:
        raise RequestError(
            f"the export takes {missing} bytes, and {there} has {free} left.",
            hint="Free some space, or name another disk.",
        )


def _write_shards(part: Path, shards: Sequence[Shard], merged: MergedModel, name: str) -> None:
    """Write each file that is not there intact, and take down its hash as soon as it is."""
    done = _read_state(part)
    whole = sum(shard.bytes for shard in shards)
    with tqdm(total=whole, unit="B", unit_scale=True, desc=f"export {name}", disable=None) as bar:
        for shard in shards:
            path = part / shard.file
            if path.is_file() and done.get(shard.file) == hash_file(path):
                bar.update(shard.bytes)
                continue
            with torch.inference_mode():
                done[shard.file] = write_shard(path, shard, merged.values, bar.update)
            _keep_state(part, done)


def _read_state(part: Path) -> dict[str, str]:
    try:
        found = json.loads((part / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _keep_state(part: Path, done: dict[str, str]) -> None:
    scratch = part / f"{STATE}.new"
    scratch.write_text(json.dumps(done, indent=2) + "\n", encoding="utf-8")
    os.replace(scratch, part / STATE)


def _write_configs(part: Path, merged: MergedModel, voice: Voice) -> None:
    model = merged.base.model
    config: Any = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.dtype = merged.dtype
    config.architectures = [type(model).__name__]
    text = config.get_text_config()
    if merged.vocabulary != merged.base.model.get_input_embeddings().num_embeddings:
        text.vocab_size = merged.vocabulary
    if merged.untied:
        config.tie_word_embeddings = text.tie_word_embeddings = False
    config.save_pretrained(part)
    generation = copy.deepcopy(getattr(model, "generation_config", None))
    if generation is not None:
        stops = generation.eos_token_id
        known = set(stops if isinstance(stops, list) else [stops]) | {voice.tokenizer.eos_token_id}
        if voice.stop_ids and voice.stop_ids != known - {None}:  # the adapter's tokenizer ends a text in its own way
            generation.eos_token_id = sorted(voice.stop_ids) if len(voice.stop_ids) > 1 else min(voice.stop_ids)
        # Its own save refuses combinations that the base may well have come with.
        generation.to_json_file(part / "generation_config.json")
