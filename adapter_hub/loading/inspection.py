"""What is in an adapter's folder, told without a base."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import UnknownVariant
from ..hookspecs import SiteSummary, Summary
from .families import families_of
from .options import Options, check_options, identity
from .pipeline import AdapterLoader, reading


@dataclass(frozen=True)
class Inspection:
    """The facts of an adapter's files.

    ``replaced`` names tensors that stand beside the adapter type's own (heads, norms, biases); ``families`` are
    the kinds of base that have all of its modules; ``refused`` holds one sentence for each reason why a load
    would fail on any base.
    """

    folder: str
    format: str
    variant: str | None
    digest: str
    bytes: int
    tensors: int
    dtypes: tuple[str, ...]
    sites: dict[str, SiteSummary]
    replaced: tuple[str, ...]
    scale_rule: str
    base_name: str | None
    base_revision: str | None
    has_tokenizer: bool
    has_chat_template: bool
    families: tuple[str, ...]
    warnings: tuple[str, ...]
    refused: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def inspect_folder(folder: Path, loader: AdapterLoader, options: Options | None = None) -> Inspection:
    """Read the folder, or file, and describe it as it is with what was stated of it.

    Raises:
        FormatError: the files cannot be read.
        RequestError: they contradict the options.
    """
    stated = check_options(options or {})
    with reading(folder):
        place = loader.place_of(folder)
        hashing, files = loader.digest(place), loader.read(place, stated)
        digest = identity(hashing.result(), stated)
    try:
        variant = loader.variant_of(files.config, place.path)
        name, summary = variant.name, loader.describe(variant, files)
    except UnknownVariant as error:
        name, summary = None, Summary({}, "unknown", (str(error),))
    own = tuple(f"{path}." for path in summary.sites)
    return Inspection(
        folder=str(place.path),
        format=place.format.name,
        variant=name,
        digest=digest,
        bytes=sum(tensor.nbytes for tensor in files.tensors.values()),
        tensors=len(files.tensors),
        dtypes=tuple(sorted({str(t.dtype).removeprefix("torch.") for t in files.tensors.values()})),
        sites=dict(summary.sites),
        replaced=tuple(sorted(tensor for tensor in files.tensors if not tensor.startswith(own))) if own else (),
        scale_rule=summary.scale_rule,
        base_name=files.base_name,
        base_revision=files.base_revision,
        has_tokenizer=files.tokenizer is not None,
        has_chat_template=files.chat_template is not None,
        families=tuple(map(str, families_of(summary.sites, files.model_types))),
        warnings=files.warnings,
        refused=summary.refused,
    )
