"""The rules of the house: imports run one way, the core knows no plugin and no variant."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = sorted((ROOT / "adapter_hub").rglob("*.py"))
ORDER = [
    ["errors", "config", "memory", "cores"],
    ["updates"],
    ["merge_methods"],
    ["hookspecs"],
    ["plugin_manager"],
    ["base", "loading", "store"],
    ["ops", "runtime"],
    ["engine"],
    ["exporting"],
    ["composing"],
    ["effects"],
    ["tiers", "reading", "room"],
    ["placing"],
    ["residents"],
    ["workshop"],
    ["front", "asking", "names", "merging", "making"],
    ["hub", "__init__"],
    ["testing", "server", "bench", "commands", "cli"],
]
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
VARIANTS = (
    "lora dora vera adalora qlora rslora pissa olora loftq corda ia3 loha lokr oft boft hra randlora bone shira "
    "c3a road fourierft vblora alora"
).split()
NO_TORCH = ["store", "config.py", "errors.py", "cli.py", "engine/schedule.py"]


def _imports(path: Path):
    """Modules of adapter_hub that a file imports while it runs, as dotted paths from the package."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for node in ast.walk(branch)
    }
    package = path.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: -node.level] if node.level else ()
            module = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names) if not node.module else [module]


def _room(dotted: str) -> str:
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path):
    own = _room(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for imported in _imports(path):
        assert not imported.startswith(("plugins", "adapter_hub_plugins")), imported
        if imported.startswith("adapter_hub") and _room(imported) != own and _room(imported) in LEVEL:
            assert LEVEL[_room(imported)] <= LEVEL[own], f"{own} may not import {imported}"


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_names_no_variant(path):
    named = set(re.findall(r"[a-z0-9]+", path.read_text().lower())) & set(VARIANTS)
    assert not named


@pytest.mark.parametrize("name", NO_TORCH)
def test_bookkeeping_knows_no_tensors(name):
    place = ROOT / "adapter_hub" / name
    for path in [place] if place.is_file() else place.rglob("*.py"):
        assert not [module for module in _imports(path) if module.split(".")[0] in ("torch", "transformers")], path


def test_no_file_is_too_long():
    for path in [*CORE, *(ROOT / "plugins").glob("*.py"), *(ROOT / "demo").rglob("*.py")]:
        assert len(path.read_text().splitlines()) <= 320, path
