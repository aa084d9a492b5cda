"""What a server says of itself to admins: its tiers and its plugins."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends

from . import wire
from .adapters import Shelved
from .service import Service, admin_of, service_of

router = APIRouter(prefix="/v1", tags=["server"])


@router.get("/tiers")
def tiers(shelf: Shelved) -> wire.MemoryRecord:
    """Where the bytes are: disk, host memory, device, merged weights."""
    return wire.MemoryRecord.of(shelf.memory())


@router.get("/plugins", dependencies=[Depends(admin_of)])
def plugins(service: Annotated[Service, Depends(service_of)]) -> list[wire.PluginRecord]:
    """Who brought which sources, formats, adapter types, importers, merge methods, exporters and routes."""
    return [wire.PluginRecord(**asdict(info)) for info in service.hub.plugins.infos]
