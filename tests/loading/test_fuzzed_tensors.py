"""Files of tensors that somebody damaged, renamed, retyped or reshaped: refused by name, or served as PEFT does."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from .stage import VARIANTS, WEIGHTS, Stage, weights_in

EXAMPLES = settings(max_examples=30, deadline=None, derandomize=True)  # thousands were run where types were added
KINDS = st.sampled_from(VARIANTS)
TYPES = [
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int8,
    torch.uint8,
    torch.bool,
    torch.uint16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.complex64,
]
EDGES = [float("nan"), float("inf"), float("-inf"), 3.4e38, -3.4e38, 1e-45, 65504.0, 1e20, 0.0]
ENDS = [".weight", "", ".default.weight", ".lora_A.weight", ".bias", ".base_layer.weight", ".lora_magnitude_vector"]
HEADS = [
    "",
    "base_model.model.",
    "base_model.",
    "module.",
    "_orig_mod.",
    "..",
    "../../etc/",
    "é",
    "\u202e",
    "model.model.",
]
LONG = "q" * 70_000
SITES = [
    "q_proj",
    "k_proj",
    "up_proj",
    "down_proj",
    "norm",
    "embed_tokens",
    "lm_head",
    "layers.7",
    "\x1b[2J",
    LONG,
]


def _rename(draw, tensors, name):
    tensor = tensors.pop(name)
    site = next((part for part in ("q_proj", "up_proj", "down_proj", "embed_tokens") if part in name), "")
    match draw(st.sampled_from(["head", "end", "site", "text"])):
        case "head":
            name = draw(st.sampled_from(HEADS)) + name.removeprefix(draw(st.sampled_from(["", "base_model.model."])))
        case "end":
            stem = name.rpartition(".lora_")[0] if draw(st.booleans()) else name.removesuffix(".weight")
            name = stem + draw(st.sampled_from(ENDS))
        case "site":
            name = name.replace(site or ".", draw(st.sampled_from(SITES)), 1)
        case "text":
            name = draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
    tensors[name] = tensor


def _retype(draw, tensors, name):
    names = list(tensors) if draw(st.booleans()) else [name]
    dtype = draw(st.sampled_from(TYPES))
    tensors.update(
        {name: torch.view_as_real(t) if (t := tensors[name]).is_complex() else t.to(dtype) for name in names}
    )


def _reshape(draw, tensors, name):
    tensor = tensors[name]
    if not tensor.dim() or not tensor.numel():
        return
    shapes = {
        "transposed": lambda t: t.T if t.dim() == 2 else t.unsqueeze(0),
        "no dimension": lambda t: t.reshape(-1)[0],
        "flat": lambda t: t.reshape(-1),
        "one more": lambda t: t.unsqueeze(draw(st.integers(0, t.dim()))),
        "many": lambda t: t.reshape(*t.shape, *[1] * 70),
        "none left": lambda t: t[:0],
        "no columns": lambda t: t[..., :0],
        "a row less": lambda t: t[:-1],
        "a column less": lambda t: t[..., :-1],
        "one value": lambda t: t.reshape(-1)[:1],
        "doubled": lambda t: torch.cat([t, t]),
    }
    tensors[name] = shapes[draw(st.sampled_from(sorted(shapes)))](tensor)


def _drop(draw, tensors, name):
    gone = draw(st.sampled_from([name, *("q_proj", "up_proj", "down_proj", "layers.1", "lora_", "vera_", ".")]))
    for other in [other for other in tensors if gone in other]:
        del tensors[other]


def _repeat(draw, tensors, name):
    tensors[draw(st.sampled_from(HEADS)) + name + draw(st.sampled_from(["", *ENDS]))] = tensors[name].clone()


def _swap(draw, tensors, name):
    other = draw(st.sampled_from(sorted(tensors)))
    tensors[name], tensors[other] = tensors[other], tensors[name]


def _spoil(draw, tensors, name):
    tensor = tensors[name] = tensors[name].clone()
    flat = tensor.reshape(-1)
    if flat.numel() and tensor.is_floating_point():
        where = slice(None) if draw(st.booleans()) else draw(st.integers(0, flat.numel() - 1))
        flat[where] = draw(st.sampled_from(EDGES))


CHANGES = [_rename, _retype, _reshape, _drop, _repeat, _swap, _spoil]


@EXAMPLES
@given(data=st.data(), kind=KINDS)
def test_changed_tensors_are_refused_by_name_or_served_rightly(stage: Stage, data, kind):
    folder = stage.copy_of(kind)
    path = weights_in(folder)
    tensors = load_file(path)
    for change in data.draw(st.lists(st.sampled_from(CHANGES), min_size=1, max_size=2)):
        if tensors:
            change(data.draw, tensors, data.draw(st.sampled_from(sorted(tensors))))
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, path)
    stage.hold(folder, named=("modules_to_save", "module", "vera_"))


@EXAMPLES
@given(data=st.data(), kind=KINDS)
def test_damaged_bytes_are_refused_by_name_or_served_rightly(stage: Stage, data, kind):
    folder = stage.copy_of(kind)
    path = weights_in(folder)
    content = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    match data.draw(st.sampled_from(["cut", "flip", "flip in the header", "longer", "length"])):
        case "cut":
            del content[data.draw(st.integers(0, len(content) - 1)) :]
        case "flip":
            content[data.draw(st.integers(header, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        case "flip in the header":
            content[data.draw(st.integers(0, header - 1))] ^= data.draw(st.integers(1, 255))
        case "longer":
            content += data.draw(st.binary(min_size=1, max_size=9))
        case "length":
            content[:8] = data.draw(st.integers(0, 2**64 - 1)).to_bytes(8, "little")
    path.write_bytes(content)
    stage.hold(folder, named=("module", "vera_"))


def test_each_type_of_number_is_served_or_refused_by_the_tensors_name(stage: Stage):
    outcomes = {}
    for dtype in TYPES:
        folder = stage.copy_of("lora")
        save_file({n: t.to(dtype) for n, t in load_file(folder / WEIGHTS).items()}, folder / WEIGHTS)
        outcomes[dtype] = stage.hold(folder)
    served = {dtype for dtype, refused in outcomes.items() if refused is None}
    assert served == {torch.float64, torch.float16, torch.bfloat16}
