"""A process of its own that uses adapters and unloads them: its figures are of nothing else."""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path

import torch

from adapter_hub import AdapterHub
from adapter_hub.memory import process_bytes


def tensor_bytes() -> int:
    """Bytes of all tensors that are alive."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if type(thing) is torch.Tensor]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def measure(base: Path, adapters: list[Path]) -> dict[str, list[int]]:
    """Bytes of the process and of its tensors: before adapters are used, meanwhile, and when they are unloaded.

    ``held`` is what the hub says that it holds meanwhile.
    """
    figures: dict[str, list[int]] = {"process": [], "tensors": [], "held": []}
    with AdapterHub.from_pretrained(base, quantization=None, device="cpu") as hub:
        for folder in adapters:
            hub.register(folder.name, folder)
        names = [folder.name for folder in adapters]

        def use() -> None:
            for name in names:
                hub.merge(name)
                hub.generate("hi", adapter=name, max_new_tokens=2)
            hub.generate(["hi"] * len(names), adapters=names, max_new_tokens=2)

        def look() -> None:
            memory = hub.memory()
            figures["tensors"].append(tensor_bytes())
            figures["process"].append(process_bytes())
            figures["held"].append(sum(memory.adapters.values()) + sum(memory.merged.values()) + memory.stacked)

        use()  # what the first use of anything takes is not given back
        hub.unload()
        look()
        use()
        look()
        hub.unload()
        look()
    return figures


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(Path(sys.argv[1]), [Path(path) for path in sys.argv[2:]])) + "\n")
