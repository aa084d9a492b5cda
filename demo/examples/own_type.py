"""Register a type of your own: forty lines make an adapter type served, mixed, merged and blended.

    python -m demo.examples.own_type

The type here, "gains", learns one number for each output of a linear: y = (1 + g) W x. It is given to the hub by hand;
an entry point of the group `adapter_hub` does the same for an installed module.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from adapter_hub import AdapterHub, hookimpl
from adapter_hub.errors import AdapterHubError
from adapter_hub.hookspecs import Lowered, SiteSummary, Summary
from adapter_hub.updates import LinearUpdate

say = sys.stdout.write


class Gains:
    """What the hub asks of a type: to know its own, to tell what is in a file, and to say what it does at each site."""

    name = "gains"

    def matches(self, config: dict[str, Any]) -> bool:
        """Whether a configuration is of this type."""
        return config.get("peft_type") == "GAINS"

    def describe(self, tensors: dict[str, Tensor], config: dict[str, Any]) -> Summary:
        """For ``adapter-hub inspect``."""
        sites = {name.removesuffix(".gain"): SiteSummary(rank=0) for name in tensors}
        return Summary(sites, "none: a gain is the scale", ())

    def lower(self, tensors: dict[str, Tensor], config: dict[str, Any], base: Any) -> Lowered:
        """Take the tensors out, and give back what they do. What is left over is refused by the hub."""
        names = [name for name in tensors if name.endswith(".gain")]
        return Lowered({name.removesuffix(".gain"): LinearUpdate(out_scale=1 + tensors.pop(name)) for name in names})


class Plugin:
    """What a module with an entry point would be: something with hooks."""

    @hookimpl
    def adapter_hub_variants(self) -> list[Gains]:
        """The types that it brings."""
        return [Gains()]


def write(folder: Path, base: Any, strength: float) -> None:
    """An adapter of the type, with random gains, in a folder as PEFT would write it."""
    generator = torch.Generator().manual_seed(0)
    widths = {path: site.out_features for path, site in base.sites.items() if path.endswith("o_proj")}
    gains = {
        f"base_model.model.{path}.gain": strength * torch.randn(width, generator=generator)
        for path, width in widths.items()
    }
    save_file(gains, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "GAINS"}))


with tempfile.TemporaryDirectory() as scratch, AdapterHub.from_pretrained(plugins=[("gains", Plugin())]) as hub:
    folder = Path(scratch)
    write(folder, hub.base, strength=0.4)
    say(f"{hub.register('loud', folder).variant}, {hub.info('loud').sites} sites\n")

    chat = [{"role": "user", "content": "What is the capital of France?"}]
    for done in hub.generate([chat] * 3, adapters=[None, "loud", "loud*0.2"], max_new_tokens=16):
        say(f"{done.adapter or 'base'}> {done.text.strip()}\n")
    say(f"merged into {hub.merge('loud').merged_sites} weights\n")

    # The proof is the hub's, not the type's: a file with a stray tensor is refused by name.
    stray = {"base_model.model.model.norm.gian": torch.ones(3)}
    save_file(stray, folder / "adapter_model.safetensors")
    try:
        hub.register("quiet", folder)
    except AdapterHubError as error:
        say(f"refused: {error}\n")
