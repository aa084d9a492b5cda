"""Routes: vLLM's own to load and unload a LoRA adapter, so that what calls them there calls them here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapter_hub.hookspecs import hookimpl

if TYPE_CHECKING:
    from fastapi import APIRouter


@hookimpl
def adapter_hub_server_routes() -> list[APIRouter]:
    """The two routes."""
    from .vllm_adapters import router

    return [router]
