"""Configurations of any JSON, headers that are bombs, and files of every kind: refused by name, or served rightly."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_hub.errors import (
    CorruptFile,
    RequestError,
    ShapeMismatch,
    SourceNotFound,
    UnknownFormat,
    UnknownVariant,
    UnsafeFile,
    UnsupportedFeature,
)
from adapter_hub.loading import inspect_folder

from .stage import CONFIG, VARIANTS, WEIGHTS, Stage, change_config, config_in

EXAMPLES = settings(max_examples=30, deadline=None, derandomize=True)  # thousands were run where types were added
NUMBERS = st.sampled_from([0, -1, 1, 3, 1.5, 10**18, 10**30, 10**400, -(2**63), 1e308, 1e39, 1e-300, -0.0])
SCALARS = st.none() | st.booleans() | NUMBERS | st.integers() | st.floats() | st.text(max_size=5)
NESTED = st.recursive(
    SCALARS | st.sampled_from(["q_proj", "LORA", "IA3", "../..", "/etc/passwd", "\u202e", "[[[[", "(.|\\w*?)+[^j]"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
PATTERNS = st.dictionaries(st.sampled_from(["q_proj", "up.proj", ".*", "^model", "(", "a{9}"]), SCALARS, max_size=3)
# PEFT sizes what it makes by these, and matches by those: it would take the memory, or the time, that the hub does not.
COSTLY = {"r", "init_r", "target_r", "rank_pattern", "alpha_pattern", "layers_pattern", "target_modules"}
COSTLY |= {"exclude_modules", "feedforward_modules", "target_parameters", "modules_to_save"}


@EXAMPLES
@given(data=st.data(), kind=st.sampled_from(VARIANTS))
def test_settings_of_any_value_are_refused_by_name_or_served_rightly(stage: Stage, data, kind):
    folder = stage.copy_of(kind)
    fields = sorted(json.loads(config_in(folder).read_text()))
    field = data.draw(st.sampled_from([*fields, "alpha_pattern", "a_setting_of_tomorrow"]))
    change_config(folder, **{field: data.draw(NESTED | PATTERNS if "pattern" in field else NESTED)})
    stage.hold(folder, named=(field, "is an adapter of type", "the adapter was trained on"), oracle=field not in COSTLY)


@pytest.mark.parametrize("value", [1, 3, 64, 10**18, -5, "4", None, [1]])
def test_a_rank_in_the_config_is_not_believed(stage: Stage, value):
    folder = stage.copy_of("lora")
    change_config(folder, r=value)
    assert stage.hold(folder, oracle=False) is None
    expected, found = stage.served(stage.copy_of("lora")), stage.served(folder)
    assert torch.equal(found, expected)


TEXTS = {
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "not utf-8": lambda text: text.replace(b'"r"', b'"\xff\xfe"'),
    "utf-16": lambda text: text.decode().encode("utf-16"),
    "half a surrogate pair": lambda text: text.replace(b'"LORA"', b'"\\ud800"'),
    "half a pair as a setting": lambda text: text.replace(b'"r"', b'"\\udfff"'),
    "zero bytes": lambda text: text + b"\0" * 99,
    "nothing": lambda _: b"",
    "empty object": lambda _: b"{}",
    "null": lambda _: b"null",
    "deep lists": lambda text: text.replace(b"{", b'{"deep": ' + b"[" * 900 + b"]" * 900 + b",", 1),
    "deep objects": lambda text: text.replace(b"{", b'{"deep": ' + b'{"a":' * 900 + b"1" + b"}" * 900 + b",", 1),
    "depth without end": lambda _: b'{"a":' * 200_000,
    "a long number": lambda text: text.replace(b"{", b'{"long": ' + b"9" * 5000 + b",", 1),
    "a long list": lambda text: text.replace(b"{", b'{"long": [' + b"1," * 1_900_000 + b"1],", 1),
    "a long name": lambda text: text.replace(b"{", b'{"' + b"x" * (3 << 20) + b'": 1,', 1),
    "a type with a long name": lambda text: text.replace(b'"LORA"', b'"' + b"x" * (3 << 20) + b'"'),
    "a type that rings the bell": lambda text: text.replace(b'"LORA"', b'"\\u0007\\u001b[2J"'),
    "many settings": lambda text: b'{"a0":1' + b"".join(b',"a%d":1' % k for k in range(200_000)) + b"," + text[1:],
    "many patterns": lambda text: text.replace(
        b'"alpha_pattern": {', b'"alpha_pattern": {' + b"".join(b'"(%d)":1,' % k for k in range(200_000))
    ),
    "larger than any": lambda text: text + b" " * (17 << 20),
}


@pytest.mark.parametrize("case", TEXTS)
def test_a_config_of_hostile_text_is_refused_in_a_short_sentence(stage: Stage, case):
    folder = stage.copy_of("lora")
    (folder / CONFIG).write_bytes(TEXTS[case]((folder / CONFIG).read_bytes()))
    refused = stage.hold(folder, named=("alpha_pattern",))
    assert isinstance(refused, CorruptFile | UnknownFormat | UnknownVariant | UnsupportedFeature)
    assert "\x1b" not in str(refused)


def test_of_a_key_that_is_given_twice_the_last_counts_as_in_peft(stage: Stage):
    folder = stage.copy_of("lora")
    text = (folder / CONFIG).read_text()
    (folder / CONFIG).write_text(text.replace('"lora_alpha": 12', '"lora_alpha": 12, "lora_alpha": 5'))
    assert stage.hold(folder) is None


SETTINGS = {
    "drawn projections without end": ("vera-drawn", {"r": 10**12}, ShapeMismatch, "vera_lambda_d"),
    "drawn projections of no rank": ("vera-drawn", {"r": 0}, ShapeMismatch, "vera_lambda_d"),
    "drawn projections of negative rank": ("vera-drawn", {"r": -8}, ShapeMismatch, "vera_lambda_d"),
    "half a rank": ("vera-drawn", {"r": 8.5}, UnsupportedFeature, "no r and projection_prng_key"),
    "a key beyond 64 bit": ("vera-drawn", {"projection_prng_key": 2**70}, UnsupportedFeature, "projection_prng_key"),
    "half a key": ("vera-drawn", {"projection_prng_key": 9.5}, UnsupportedFeature, "projection_prng_key"),
    "a target that the file leaves out": ("vera-drawn", {"target_modules": ["o_proj"]}, CorruptFile, "'o_proj'"),
    "a token beyond all memory": ("tokens", {"trainable_token_indices": [1, 2, 10**12]}, UnsupportedFeature, "indices"),
    "a token before the first": ("tokens", {"trainable_token_indices": [1, 2, -1]}, UnsupportedFeature, "indices"),
    "half a token": ("tokens", {"trainable_token_indices": [1, 2, 2.5]}, UnsupportedFeature, "indices"),
    "a token given twice": ("tokens", {"trainable_token_indices": [1, 2, 2]}, ShapeMismatch, "2 token indices"),
    "tokens as one number": ("tokens", {"trainable_token_indices": 5}, UnsupportedFeature, "indices"),
    "saved modules as a number": ("tokens", {"modules_to_save": 5}, None, ""),
    "an alpha beyond float32": ("lora", {"lora_alpha": 10**400}, UnsupportedFeature, "lora_alpha"),
    "an alpha that float32 cannot hold": ("lora", {"lora_alpha": 1e39}, UnsupportedFeature, "lora_alpha"),
    "a pattern that takes for ever": (
        "lora",
        {"alpha_pattern": {r"(.|\w*?)+[^j]": 3}},
        UnsupportedFeature,
        r"alpha_pattern.*\(\.\|\\\\w\*\?\)\+\[\^j\]",
    ),
}


def test_inspection_tells_of_a_pattern_that_takes_for_ever(stage: Stage):
    folder = stage.copy_of("lora")
    change_config(folder, alpha_pattern={r"(.|\w*?)+[^j]": 3})
    assert "alpha_pattern" in inspect_folder(folder, stage.loader).refused[0]


@pytest.mark.parametrize("case", SETTINGS)
def test_a_hostile_setting_is_refused_before_it_costs_anything(stage: Stage, case):
    kind, changes, error, said = SETTINGS[case]
    folder = stage.copy_of(kind)
    change_config(folder, **changes)
    refused = stage.hold(folder, oracle=False, named=("projection_prng_key", "alpha_pattern", "lora_alpha"))
    assert (None if refused is None else type(refused)) is error
    if refused is not None:
        with pytest.raises(error, match=said):
            raise refused


def _header(folder: Path, header: dict[str, object] | bytes, data: bytes = b"", announced: int | None = None) -> None:
    packed = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    size = len(packed) if announced is None else announced
    (folder / WEIGHTS).write_bytes(size.to_bytes(8, "little") + packed + data)


def _entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def _one(folder: Path, dtype: str, shape: list[int], end: int, data: bytes = b"") -> None:
    _header(folder, {"a": _entry(dtype, shape, 0, end)}, data)


def _two(folder: Path, first: tuple[object, ...], second: tuple[object, ...]) -> None:
    _header(folder, {"a": _entry(*first), "b": _entry(*second)}, b"0" * 24)


def _many(folder: Path, count: int) -> None:
    _header(folder, {f"a{k}": _entry("F32", [0], 0, 0) for k in range(count)})


BOMBS = {
    "a header of 2^63 bytes": lambda folder: _header(folder, {}, announced=2**63),
    "a header of 2^64 - 1 bytes": lambda folder: _header(folder, {}, announced=2**64 - 1),
    "a header of 90 MB": lambda folder: _header(folder, b"{}" + b" " * 90_000_000),
    "a huge shape over few bytes": lambda folder: _one(folder, "F32", [2**31, 2**31], 2**62, b"0" * 64),
    "a shape whose size overflows": lambda folder: _one(folder, "F32", [2**62, 2**62], 64, b"0" * 64),
    "nothing times 2^63": lambda folder: _one(folder, "F32", [0, 2**63], 0),
    "nothing times 2^80": lambda folder: _two(folder, ("F32", [0, 2**40, 2**40], 0, 0), ("F16", [12], 0, 24)),
    "four bit": lambda folder: _one(folder, "F4", [4, 8], 16, b"0" * 16),
    "six bit": lambda folder: _one(folder, "F6_E2M3", [4, 8], 24, b"0" * 24),
    "tensors that overlap": lambda folder: _two(folder, ("F32", [4], 0, 16), ("F32", [4], 8, 24)),
    "a gap": lambda folder: _two(folder, ("F32", [4], 0, 16), ("F32", [1], 20, 24)),
    "200 thousand tensors": lambda folder: _many(folder, 200_000),
    "60 thousand tensors": lambda folder: _many(folder, 60_000),
    "a name of megabytes": lambda folder: _header(folder, {"q" * 12_000_000: _entry("F32", [0], 0, 0)}),
    "a hundred thousand dimensions": lambda folder: _one(folder, "F32", [1] * 100_000, 4, b"0" * 4),
}


@pytest.mark.parametrize("case", BOMBS)
def test_a_header_that_is_a_bomb_is_refused_in_no_time(stage: Stage, case):
    folder = stage.copy_of("lora")
    BOMBS[case](folder)
    assert stage.hold(folder, oracle=False, named=("tensors are of no use",)) is not None


def _link(name, target):
    def spoil(folder):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return spoil


def _replace(name, make):
    def spoil(folder):
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return spoil


def _holes(path):
    with path.open("wb") as stream:
        stream.truncate(1 << 40)


def _asks_for_code(path):
    path.write_text(json.dumps({"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}))
    path.with_name("tokenizer.json").write_text("{}")
    path.with_name("own.py").write_text("raise SystemExit('code of the adapter ran')")


# Weights whose config is none are tensors alone, of which nobody states the scale.
KINDS = {
    "a folder for weights": (_replace(WEIGHTS, Path.mkdir), CorruptFile),
    "a folder for a config": (_replace(CONFIG, Path.mkdir), UnsupportedFeature),
    "a pipe for weights": (_replace(WEIGHTS, os.mkfifo), CorruptFile),
    "a pipe for a config": (_replace(CONFIG, os.mkfifo), UnsupportedFeature),
    "a device for weights": (_link(WEIGHTS, "/dev/zero"), CorruptFile),
    "a device for a config": (_link(CONFIG, "/dev/zero"), UnsupportedFeature),
    "a config of the kernel's": (_link(CONFIG, "/proc/self/status"), CorruptFile),
    "weights of the kernel's": (_link(WEIGHTS, "/proc/self/maps"), CorruptFile),
    "memory of the process": (_link(WEIGHTS, "/proc/self/mem"), CorruptFile),
    "a tokenizer that cannot be mapped": (_link("tokenizer.model", "/sys/kernel/profiling"), CorruptFile),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), CorruptFile),
    "empty weights": (_replace(WEIGHTS, Path.touch), CorruptFile),
    "weights full of holes": (_replace(WEIGHTS, _holes), CorruptFile),
    "a link out, to what is no adapter": (_link(WEIGHTS, "/etc/passwd"), CorruptFile),
    "a config that links out": (_link(CONFIG, "/etc/passwd"), CorruptFile),
    "a link to nowhere for weights": (_link(WEIGHTS, "nowhere"), CorruptFile),
    "a link to itself for a config": (_link(CONFIG, CONFIG), UnsupportedFeature),
    "a link to nowhere beside": (_link("README.md", "/nowhere/README.md"), None),
    "a link to itself beside": (_link("README.md", "README.md"), None),
    "a chat template not in UTF-8": (
        _replace("chat_template.jinja", lambda path: path.write_bytes(b"\xff")),
        CorruptFile,
    ),
    "a tokenizer of nonsense": (_replace("tokenizer.json", lambda path: path.write_text('{"model": 5}')), CorruptFile),
    "a tokenizer that brings code": (_replace("tokenizer_config.json", _asks_for_code), CorruptFile),
    "a pickle": (_replace(WEIGHTS, lambda path: torch.save({}, path.with_name("adapter_model.bin"))), UnsafeFile),
}


@pytest.mark.parametrize("case", KINDS)
def test_files_of_every_kind_are_refused_or_do_no_harm(stage: Stage, case):
    spoil, error = KINDS[case]
    folder = stage.copy_of("lora")
    spoil(folder)
    refused = stage.hold(folder, named=("lora_alpha",))
    assert (None if refused is None else type(refused)) is error


def test_a_link_to_a_whole_file_elsewhere_is_followed_as_in_the_hubs_cache(stage: Stage, tmp_path):
    folder = stage.copy_of("lora")
    for name in (CONFIG, WEIGHTS):
        (folder / name).rename(tmp_path / name)
        (folder / name).symlink_to(tmp_path / name)
    assert stage.hold(folder) is None


@pytest.mark.parametrize(
    ("ref", "error"),
    [
        ("~nobody-of-this-name/x", SourceNotFound),
        ("/" + "x" * 5000, SourceNotFound),
        ("org/" + "x" * 5000, SourceNotFound),
        ("a\0b", SourceNotFound),
        ("../" * 50 + "nowhere", SourceNotFound),
        ("/dev/null", SourceNotFound),
    ],
)
def test_a_reference_of_any_kind_is_refused(stage: Stage, ref, error):
    with pytest.raises(error):
        stage.hub.register("shown", ref)


def test_a_folder_whose_name_is_no_text_is_refused(stage: Stage, tmp_path):
    folder = tmp_path / os.fsdecode(b"\xff")
    stage.copy_of("lora").rename(folder)
    with pytest.raises(RequestError, match="not in UTF-8") as caught:
        stage.hub.load_adapter(folder, "shown")
    assert str(caught.value).encode()


def test_a_tokenizer_that_is_refused_leaves_nothing_registered(stage: Stage):
    folder = stage.copy_of("lora")
    (folder / "tokenizer.json").write_text("[]")
    for attempt in (stage.hub.register, lambda name, ref: stage.hub.load_adapter(ref, name)):
        with pytest.raises(CorruptFile, match="tokenizer"):
            attempt("shown", folder)
    assert [info.name for info in stage.hub.adapters()] == ["good"]
