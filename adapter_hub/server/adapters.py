"""The routes that read and change adapters, for callers with the scope ``admin``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Query

from ..store import AdapterInfo
from . import wire
from .rights import Caller
from .service import Service, admin_of, service_of
from .shelf import Shelf

router = APIRouter(prefix="/v1/adapters", tags=["adapters"])
PAGE, MAX_PAGE = 100, 1000


async def shelf_of(
    service: Annotated[Service, Depends(service_of)], caller: Annotated[Caller, Depends(admin_of)]
) -> Shelf:
    """The adapters as the caller may change them; a dependency of routes."""
    return Shelf(service, caller)


Shelved = Annotated[Shelf, Depends(shelf_of)]


def record(info: AdapterInfo) -> wire.AdapterRecord:
    """One adapter, written out; a sum has no files of its own."""
    return wire.AdapterRecord.of(info, files_exist=info.folder == "" or Path(info.folder).exists())


@router.get("")
def list_adapters(
    shelf: Shelved,
    after: Annotated[str | None, Query(description="Where the page before ended.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = PAGE,
    tag: Annotated[str | None, Query()] = None,
    all_versions: Annotated[bool, Query()] = False,
) -> wire.AdapterPage:
    """Registered adapters: the current version of each, or all versions."""
    found = shelf.page(tag, after, limit + 1, all_versions=all_versions)
    page = found[:limit]
    last = page[-1] if len(found) > limit else None
    more = None if last is None else last.key if all_versions else last.name
    return wire.AdapterPage(data=[record(info) for info in page], next=more)


@router.post("", status_code=201)
async def register(shelf: Shelved, asked: wire.Registration) -> wire.AdapterRecord:
    """Prove an adapter against the base and record it; content that is new under its name is its next version."""
    return record(await shelf.register(asked))


@router.post("/inspect")
async def inspect(shelf: Shelved, asked: wire.Inspected) -> wire.InspectionRecord:
    """Tell what is in an adapter's files; nothing is registered."""
    return wire.InspectionRecord(**(await shelf.inspect(asked)).as_dict())


@router.post("/compose", status_code=201)
async def compose(shelf: Shelved, asked: wire.Composition) -> wire.AdapterRecord:
    """Make one adapter of several and record it."""
    return record(await shelf.compose(asked))


@router.get("/{ref}")
def show(shelf: Shelved, ref: str) -> wire.AdapterRecord:
    """What is known of one adapter."""
    return record(shelf.hub.info(shelf.held(ref)))


@router.delete("/{ref}")
def remove(shelf: Shelved, ref: str) -> wire.Removed:
    """Unload an adapter and forget it: one version, or a name with all of its. Its files stay."""
    shelf.hub.remove(shelf.held(ref))
    return wire.Removed(id=ref)


@router.post("/{ref}/load")
async def load(shelf: Shelved, ref: str) -> wire.AdapterRecord:
    """Bring a registered adapter, or a sum of such, to the device."""
    return record(await shelf.run(shelf.hub.make_resident, shelf.held(ref)))


@router.post("/{ref}/unload")
async def unload(
    shelf: Shelved, ref: str, asked: Annotated[wire.Unloading | None, Body()] = None
) -> wire.AdapterRecord:
    """Free what an adapter takes on the device and in host memory; it stays registered."""
    keep = asked is not None and asked.keep_on_host
    await shelf.run(shelf.hub.unload, shelf.held(ref), keep_on_host=keep)
    return record(await shelf.run(shelf.known, ref))


@router.post("/{ref}/pin")
def pin(shelf: Shelved, ref: str) -> wire.AdapterRecord:
    """Mark an adapter as one that stays resident when others have to go."""
    return record(shelf.hub.pin(shelf.held(ref)))


@router.post("/{ref}/unpin")
def unpin(shelf: Shelved, ref: str) -> wire.AdapterRecord:
    """Take pins back: that of a version, or all of a name."""
    return record(shelf.hub.unpin(shelf.held(ref)))


@router.post("/{ref}/alias")
def alias(shelf: Shelved, ref: str, asked: wire.Aliasing) -> wire.AdapterRecord:
    """Let ``name:alias`` stand for a version of a name."""
    return record(shelf.hub.alias(shelf.held(ref), asked.alias, asked.version))


@router.delete("/{ref}/alias/{word}")
def unalias(shelf: Shelved, ref: str, word: str) -> wire.AdapterRecord:
    """Take an alias away; the version that it stood for stays."""
    return record(shelf.hub.unalias(shelf.held(ref), word))


@router.post("/{ref}/rollback")
async def rollback(
    shelf: Shelved, ref: str, asked: Annotated[wire.RollingBack | None, Body()] = None
) -> wire.AdapterRecord:
    """Make another version of a name the current one, once its files are found to be what they were."""
    version = None if asked is None else asked.version
    return record(await shelf.run(shelf.hub.rollback, shelf.held(ref), version))


@router.patch("/{ref}/defaults")
def set_defaults(shelf: Shelved, ref: str, asked: Annotated[dict[str, object], Body()]) -> wire.AdapterRecord:
    """Change what requests to an adapter have where they do not say; null takes a default away."""
    return record(shelf.hub.set_defaults(shelf.held(ref), **asked))


@router.post("/{ref}/merge")
async def merge(shelf: Shelved, ref: str, asked: Annotated[wire.Merging | None, Body()] = None) -> wire.MergeRecord:
    """Fold an adapter into 16-bit weights of its own, beside the base's."""
    pinned = asked is not None and asked.pin
    report = await shelf.run(shelf.hub.merge, shelf.held(ref), pin=pinned)
    return wire.MergeRecord(**report.as_dict())


@router.post("/{ref}/unmerge")
async def unmerge(shelf: Shelved, ref: str) -> wire.AdapterRecord:
    """Free an adapter's merged weights."""
    await shelf.run(shelf.hub.unmerge, shelf.held(ref))
    return record(await shelf.run(shelf.known, ref))
