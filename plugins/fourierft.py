"""Variant: FourierFT (Gao et al. 2024, arXiv 2405.03003, equation 4).

    y = W x + b0 + D x,    D = s Re(IDFT2(S))

Of the spectrum S [out, in] only n coefficients are not zero, at places that a seed draws. With c at (p, q):

    D x = s Re(ifft(z)),    z_p = sum over c of c X_q,    X = ifft(x)

so two transforms of vectors serve, and D is never made.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from adapter_hub.errors import ShapeMismatch
from adapter_hub.hookspecs import Variant, hookimpl
from adapter_hub.updates import SiteUpdate
from adapter_hub.updates.site import is_zero

from .compact_change import CompactChange
from .peft_settings import is_number, is_whole
from .peft_variant import Lowering, ModuleTensors, PeftVariant

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

SPECTRUM = ".fourierft_spectrum"


@dataclass(frozen=True, eq=False, kw_only=True)
class SpectralChange(CompactChange):
    """F from few coefficients of its spectrum.

    Args:
        spectrum: [n], any constant scale folded in.
        rows: [n] int32, where each coefficient stands in the spectrum [out, in].
        columns: [n] int32
        num_outputs: rows of F.
    """

    spectrum: Tensor
    rows: Tensor
    columns: Tensor
    num_outputs: int

    def product(self, x: Tensor) -> Tensor:
        """See ``CompactChange``."""
        if x.shape[:-1].numel() * len(self.spectrum) > x.shape[-1] * self.num_outputs:
            # For this many tokens F itself is smaller than what the other way keeps in between.
            spectrum = x.new_zeros(self.num_outputs, x.shape[-1])
            spectrum[self.rows.long(), self.columns.long()] = self.spectrum.to(x.dtype)
            return F.linear(x, torch.fft.ifft2(spectrum).real)
        terms = torch.fft.ifft(x).index_select(-1, self.columns) * self.spectrum.to(x.dtype)
        sums = terms.new_zeros(*x.shape[:-1], self.num_outputs).index_add(-1, self.rows, terms)
        return torch.fft.ifft(sums).real

    def pair(self, weight: Tensor) -> tuple[Tensor, Tensor] | None:
        """See ``Factored``: a coefficient is a wave, cos(a + b) = cos a cos b - sin a sin b, so of rank 2."""
        outputs, inputs = weight.shape
        if 2 * len(self.spectrum) >= min(outputs, inputs):
            return None
        along, across = (_angles(at, size) for at, size in ((self.rows, outputs), (self.columns, inputs)))
        size = (self.spectrum.double() / (outputs * inputs)).unsqueeze(1)
        B = torch.cat([along.cos() * size, -along.sin() * size]).T
        return torch.cat([across.cos(), across.sin()]).float(), B.float().contiguous()

    def is_zero(self) -> bool:
        """Whether every coefficient is zero."""
        return is_zero(self.spectrum)


def _angles(frequencies: Tensor, size: int) -> Tensor:
    """2 pi f k / size for k < size, [n, size] in float64; whole turns go while the numbers are still whole."""
    steps = frequencies.long().unsqueeze(1) * torch.arange(size, device=frequencies.device) % size
    return steps.double() * (2 * torch.pi / size)


class FourierFt(PeftVariant):
    """Coefficients of a change's spectrum."""

    name = "fourierft"
    peft_type = "FOURIERFT"
    marks = (SPECTRUM,)
    known = frozenset("n_frequency n_frequency_pattern random_loc_seed scaling".split())
    scale_rule = "scaling"

    def refusals(self, config: Mapping[str, Any]) -> list[str]:
        """What the places and the scale need."""
        found = super().refusals(config)
        if not is_number(config.get("scaling")):
            found.append("the config has no number for scaling, so the scale of the update is not known.")
        if not is_whole(config.get("random_loc_seed")):
            found.append("the config has no random_loc_seed, so the places of the coefficients are not known.")
        return found

    def lowering(self, tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], base: BaseModel) -> Lowering:
        """See ``PeftVariant``."""
        return _Spectra(config["scaling"], config["random_loc_seed"])


class _Spectra(Lowering):
    def __init__(self, scale: float, seed: int) -> None:
        self._scale = scale
        self._seed = seed
        self._places: dict[tuple[int, int, int], tuple[Tensor, Tensor]] = {}

    def update(self, module: ModuleTensors) -> SiteUpdate:
        spectrum = module.take(SPECTRUM, None)
        inputs, outputs = module.site.in_features, module.site.out_features
        if len(spectrum) > inputs * outputs:
            raise ShapeMismatch(
                f"tensor {module.path}{SPECTRUM} has {len(spectrum)} coefficients for {inputs * outputs} places.",
                hint="The adapter was trained on a model of another shape.",
            )
        rows, columns = self._drawn(outputs, inputs, len(spectrum))
        return SpectralChange(
            spectrum=spectrum.float() * self._scale,
            rows=rows,
            columns=columns,
            num_outputs=outputs,
            bias=module.bias_change(),
        )

    def shared(self) -> tuple[Tensor, ...]:
        """The places: adapters of one seed have them in common."""
        return tuple(tensor for pair in self._places.values() for tensor in pair)

    def _drawn(self, outputs: int, inputs: int, count: int) -> tuple[Tensor, Tensor]:
        """Rows and columns of the places, as PEFT draws them."""
        key = (outputs, inputs, count)
        if key not in self._places:
            generator = torch.Generator("cpu").manual_seed(self._seed)
            drawn = torch.randperm(outputs * inputs, generator=generator)[:count]
            self._places[key] = ((drawn // inputs).int(), (drawn % inputs).int())
        return self._places[key]


@hookimpl
def adapter_hub_variants() -> list[Variant]:
    """The one variant here."""
    return [FourierFt()]
