"""The registry's rules in plain dictionaries, steps to put to both, and what can be seen of either."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from adapter_hub.errors import AdapterInUse, NotRegistered, RequestError
from adapter_hub.store import AdapterInfo, Registry

INFO = AdapterInfo(
    name="a",
    digest="d1",
    source="org/a",
    revision="abc",
    folder="/x",
    format="peft",
    variant="v",
    sites=3,
    ranks=(4, 8),
    bytes=1234,
    base_name="org/base",
    base_fingerprint="f",
    tags=("x", "y"),
    warnings=("odd",),
    registered_at="2026-01-01T00:00:00+00:00",
)
NAMES, DIGESTS, WORDS, NUMBERS = ("a", "b", "a.b"), ("d1", "d2", "d3", "d4"), ("s", "t-1"), (1, 2, 3, 4, 5)
Step = tuple[Any, ...]


@dataclass
class Name:
    """One name: its versions as number -> (digest, tags, pinned)."""

    versions: dict[int, tuple[str, tuple[str, ...], bool]] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)
    current: int = 0
    pinned: bool = False


class Model:
    """What a registry ought to be after the same steps."""

    def __init__(self) -> None:
        self.names: dict[str, Name] = {}
        self.highest: dict[str, int] = {}

    def resolve(self, ref: str) -> tuple[str, int]:
        """Name and number that a reference stands for."""
        name, _, number = ref.partition("@")
        name, _, alias = name.partition(":")
        known = self.names.get(name)
        version = None
        if known is not None:
            version = int(number) if number else known.aliases.get(alias) if alias else known.current
        if known is None or version not in known.versions:
            raise NotRegistered(ref)
        return name, version

    def add(self, name: str, digest: str, tags: tuple[str, ...], pin: bool) -> None:
        known = self.names.setdefault(name, Name())
        same = [number for number, (content, *_) in known.versions.items() if content == digest]
        if same:
            _, before, pinned = known.versions[same[0]]
            known.versions[same[0]] = digest, tags or before, pinned
        else:
            before = known.versions[known.current][1] if known.versions else ()
            known.current = self.highest[name] = self.highest.get(name, 0) + 1
            known.versions[known.current] = digest, tags or before, False
        known.pinned |= pin

    def alias(self, name: str, alias: str, version: int | None) -> None:
        _, number = self.resolve(name if version is None else f"{name}@{version}")
        self.names[name].aliases[alias] = number

    def unalias(self, name: str, alias: str) -> None:
        self.resolve(f"{name}:{alias}")
        del self.names[name].aliases[alias]

    def rollback(self, name: str, version: int) -> None:
        _, self.names[name].current = self.resolve(f"{name}@{version}")

    def pin(self, ref: str, pinned: bool = True) -> None:
        name, number = self.resolve(ref)
        known = self.names[name]
        if ref == name:
            known.pinned = pinned
        for other in known.versions if ref == name and not pinned else [number]:
            digest, tags, before = known.versions[other]
            known.versions[other] = digest, tags, before if ref == name and pinned else pinned

    def unpin(self, ref: str) -> None:
        self.pin(ref, False)

    def remove(self, ref: str) -> None:
        if ":" in ref:
            raise RequestError(ref)
        name, number = self.resolve(ref)
        known = self.names[name]
        if ref != name:
            if number in known.aliases.values():
                raise AdapterInUse(ref)
            del known.versions[number]
            if known.versions and known.current == number:
                known.current = max(known.versions)
        if ref == name or not known.versions:
            del self.names[name]

    def tables(self) -> Iterator[list[tuple[Any, ...]]]:
        """All that there is, as the file has it: names, aliases, numbers, versions, tags."""
        names = self.names.items()
        yield [(name, known.current, known.pinned) for name, known in names]
        yield [(name, alias, number) for name, known in names for alias, number in known.aliases.items()]
        yield list(self.highest.items())
        versions = [(name, number, *rest) for name, known in names for number, rest in known.versions.items()]
        yield [(name, number, digest, pinned) for name, number, digest, _, pinned in versions]
        yield [(name, number, tag) for name, number, _, tags, _ in versions for tag in tags]

    def view(self) -> dict[str, Any]:
        """All there is to see, by key."""
        return {
            f"{name}@{number}": (
                digest,
                tuple(sorted(tags)),
                known.current == number,
                pinned or (known.pinned and known.current == number),
                tuple(sorted(alias for alias, stands_for in known.aliases.items() if stands_for == number)),
            )
            for name, known in sorted(self.names.items())
            for number, (digest, tags, pinned) in sorted(known.versions.items())
        }


def view(registry: Registry) -> dict[str, Any]:
    """The same of a registry."""
    infos = registry.list(all_versions=True)
    return {info.key: (info.digest, info.tags, info.current, info.pinned, info.aliases) for info in infos}


def take(step: Step, on: Model | Registry) -> type[Exception] | None:
    """Put a step to a model or a registry; gives the kind of error that it met."""
    what, *values = step
    try:
        if what == "add" and isinstance(on, Registry):
            name, digest, tags, pin = values
            on.add(replace(INFO, name=name, digest=digest, tags=tags), pin=pin)
        else:
            getattr(on, what)(*values)
    except (NotRegistered, AdapterInUse, RequestError) as error:
        return type(error)
    return None


def fill(path: Path, count: int) -> bytes:
    """Make a registry of so many adapters; gives what is in the file."""
    registry = Registry(path)
    registry._database._writer.execute("PRAGMA synchronous = OFF")
    for k in range(count):
        registry.add(replace(INFO, name=f"n{k}", digest=str(k), source=f"org/number-{k}-"))
    registry.close()
    return path.read_bytes()


def draw(rng: random.Random) -> Step:
    """A step, most often one that makes or changes something."""
    name, number, word = rng.choice(NAMES), rng.choice(NUMBERS), rng.choice(WORDS)
    ref = rng.choice([name, f"{name}@{number}", f"{name}:{word}"])
    return rng.choice(
        [
            ("add", name, rng.choice(DIGESTS), tuple(rng.sample(WORDS, rng.randrange(3))), rng.random() < 0.2),
            ("add", name, rng.choice(DIGESTS), (), False),
            ("alias", name, word, rng.choice([None, number])),
            ("unalias", name, word),
            ("rollback", name, number),
            ("pin", ref),
            ("unpin", ref),
            ("remove", f"{name}@{number}"),
            ("remove", rng.choice([ref, f"{name}@{number}"])),
        ]
    )
