"""One adapter of every variant for the tiny base, to be composed and exported."""

from __future__ import annotations

from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from .models import save_adapter
from .plugins.test_native_variants import CASES as NATIVE
from .test_every_variant import PEFT

IA3 = Path(__file__).parents[1] / "plugins" / "adapter-hub-ia3" / "adapter_hub_ia3.py"
NAMES = [name for name in (*PEFT, *NATIVE) if name != "alora"]  # it acts from some token on, which no weights can


def save_all(base: Path, root: Path) -> dict[str, Path]:
    """Every adapter's folder, by name."""
    for name, config in PEFT.items():
        if name in NAMES:
            save_adapter(base, root / name, config)
    for name, make in NATIVE.items():
        make(root / name)
    return {name: root / name for name in NAMES}


def ia3_plugins():
    """The IA3 module, which is a distribution of its own, where that is not installed."""
    if "ia3" in {entry.name for entry in entry_points(group="adapter_hub")}:
        return ()
    spec = spec_from_file_location("adapter_hub_ia3", IA3)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return (("ia3", module),)
