"""What the types of PEFT have in common that keep tensors of their own at linears, one file with its settings each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from adapter_hub.errors import CorruptFile, ShapeMismatch, UnsupportedFeature
from adapter_hub.hookspecs import Lowered, SiteSummary, Summary
from adapter_hub.updates import SiteUpdate
from adapter_hub.updates.site import hold_shape

from .peft_settings import unknown_settings

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel
    from adapter_hub.base.sites import SiteKind


class PeftVariant(ABC):
    """A type whose adapted modules each make one update, from their own tensors and the settings.

    ``peft_type`` is the type's name in a config, ``marks`` are ends of tensor names one of which every adapted module
    has, ``known`` the settings beside the common ones, and ``scale_rule`` says how the scale comes about.
    """

    name: str
    peft_type: ClassVar[str]
    marks: ClassVar[tuple[str, ...]]
    known: ClassVar[frozenset[str]]
    scale_rule: ClassVar[str]

    def matches(self, config: Mapping[str, Any]) -> bool:
        """The type that the config names."""
        return config.get("peft_type") == self.peft_type

    def describe(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Summary:
        """The adapted modules and their ranks."""
        found = {
            path: SiteSummary(self.rank(tensors[path + mark])) for path, mark in adapted_modules(tensors, self.marks)
        }
        return Summary(found, self.scale_rule, tuple(self.refusals(config)))

    def lower(self, tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], base: BaseModel) -> Lowered:
        """One update for each adapted module."""
        for sentence in self.refusals(config):
            raise UnsupportedFeature(sentence)
        lowering = self.lowering(tensors, config, base)
        updates = {
            path: lowering.update(ModuleTensors(path, mark, self.kind(mark), tensors, base))
            for path, mark in adapted_modules(tensors, self.marks)
        }
        return Lowered(updates, warnings=lowering.warnings(), shared=lowering.shared())

    def refusals(self, config: Mapping[str, Any]) -> list[str]:
        """A sentence for each setting with which the tensors would be computed wrongly."""
        return unknown_settings(config, self.known)

    def kind(self, mark: str) -> SiteKind:
        """What a module with such a tensor has to be."""
        return "linear"

    def rank(self, tensor: Tensor) -> int:
        """Rank of a module, from the first of its tensors; 0 where the type has no such thing."""
        return 0

    @abstractmethod
    def lowering(self, tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], base: BaseModel) -> Lowering:
        """What turns the modules of one adapter into updates; takes what they share out of ``tensors``."""


class Lowering(ABC):
    """Turns the modules of one adapter into updates."""

    @abstractmethod
    def update(self, module: ModuleTensors) -> SiteUpdate:
        """The update of one module."""

    def warnings(self) -> tuple[str, ...]:
        """Words of caution for the user."""
        return ()

    def shared(self) -> tuple[Tensor, ...]:
        """Tensors that other adapters are likely to have too; asked after all updates are made."""
        return ()


class ModuleTensors:
    """The tensors of one adapted module, to be taken out of the file one by one.

    Args:
        path: of the module.
        mark: end of the tensor's name by which it was found.
        kind: what the module has to be.
        tensors: all that is left of the file.
        base: the base.

    Raises:
        UnknownSite: the base has no such module.
        UnsupportedFeature: it is of another kind there.
    """

    def __init__(
        self, path: str, mark: str, kind: SiteKind, tensors: MutableMapping[str, Tensor], base: BaseModel
    ) -> None:
        self.path = path
        self.mark = mark
        self.site = base.site(path)
        self._tensors = tensors
        self._base = base
        if self.site.kind != kind:
            raise UnsupportedFeature(f"tensor {path}{mark} changes {path}, which is no {kind} in this base.")

    def has(self, end: str) -> bool:
        """Whether the module has a tensor of this name."""
        return self.path + end in self._tensors

    def take(self, end: str, *shape: int | None) -> Tensor:
        """Take a tensor of floats of this shape; None stands for any number above 0.

        Raises:
            CorruptFile: it is missing.
            ShapeMismatch: it has another shape.
            UnsupportedFeature: it holds no floats.
        """
        tensor = self._pop(end)
        if len(shape) != tensor.dim() or any(
            want is None and not have for have, want in zip(tensor.shape, shape, strict=True)
        ):
            raise ShapeMismatch(
                f"tensor {self.path}{end} is {list(tensor.shape)}; it needs {len(shape)} dimensions, none of them 0.",
                hint="The file is damaged, or of another version of its type.",
            )
        wanted = tuple(have if want is None else want for have, want in zip(tensor.shape, shape, strict=True))
        hold_shape(self.site, end[1:], tensor, wanted)
        return tensor

    def take_whole(self, end: str) -> Tensor:
        """Take a tensor of whole numbers, as int64. Raises as ``take``."""
        tensor = self._pop(end)
        if tensor.is_complex() or tensor.dtype == torch.bool or (tensor.is_floating_point() and not _is_whole(tensor)):
            raise UnsupportedFeature(f"tensor {self.path}{end} does not hold whole numbers.", hint="Save it again.")
        return tensor.long()

    def own_bias(self) -> Tensor | None:
        """The base's own bias [out] in float32, if it has one."""
        if "bias" not in self.site.parameters:
            return None
        return self._base.parameter(self.path, "bias").detach().float().cpu()

    def bias_change(self) -> Tensor | None:
        """How a bias that the file brings in place of the base's differs from it, [out] in float32.

        For updates of classes of their own: to the canonical form such a bias is added where it is read.
        """
        own = self.own_bias()
        if own is None or not self.has(".bias"):
            return None
        return self.take(".bias", self.site.out_features).float() - own

    def dense_weight(self) -> Tensor:
        """W [out, in] in float32 as it is served, on the CPU."""
        return self._base.dense_weight(self.path).cpu()

    def _pop(self, end: str) -> Tensor:
        tensor = self._tensors.pop(self.path + end, None)
        if tensor is None:
            raise CorruptFile(f"tensor {self.path}{end} is missing.", hint="The file is incomplete.")
        return tensor


def adapted_modules(tensors: Mapping[str, Tensor], marks: Iterable[str]) -> list[tuple[str, str]]:
    """Paths of modules that have a tensor with one of these names, each with the first such name."""
    found: dict[str, str] = {}
    for mark in marks:
        for name in tensors:
            if name.endswith(mark):
                found.setdefault(name.removesuffix(mark), mark)
    return list(found.items())


def hold_targets_present(config: Mapping[str, Any], paths: set[str], base: BaseModel) -> None:
    """Raise ``CorruptFile`` unless every target that the config lists has tensors in the file.

    For types that draw shared tensors in the size of the largest module that is adapted.
    """
    targets = config.get("target_modules")
    for target in targets if isinstance(targets, list) else ():
        meant = {
            path for path, site in base.sites.items() if f".{path}".endswith(f".{target}") and site.kind == "linear"
        }
        if meant and paths.isdisjoint(meant):
            raise CorruptFile(
                f"there are no tensors for the module {target!r} of target_modules.", hint="The file is incomplete."
            )


def _is_whole(tensor: Tensor) -> bool:
    # PEFT writes indices as floats on Windows.
    return bool(torch.equal(tensor, tensor.round())) and bool((tensor.abs() < 2**31).all())
