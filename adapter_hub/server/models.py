"""``/v1/models``: the base and the adapters, as models."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends

from ..hub import AdapterHub
from ..store import AdapterInfo
from ..store.expression import is_expression
from .asking import base_name, key_of, no_model
from .responses import ERRORS, ModelCard, ModelList
from .rights import Caller
from .service import INFER, Service, caller_of, service_of

router = APIRouter(tags=["OpenAI"], responses=ERRORS)


@router.get("/v1/models")
def list_models(
    service: Annotated[Service, Depends(service_of)], caller: Annotated[Caller, Depends(caller_of)]
) -> ModelList:
    """The base, and the current version of every adapter that the caller may use, in the order of their names."""
    caller.require(INFER)
    hub, tiers = service.hub, service.hub.tiers()
    usable = [info for info in hub.adapters() if caller.may_use(info.name)]
    cards = [_card(hub, info, info.name, tiers) for info in usable]
    return ModelList(data=[_base_card(hub, tiers), *cards])


@router.get("/v1/models/{model:path}")
def get_model(
    model: str, service: Annotated[Service, Depends(service_of)], caller: Annotated[Caller, Depends(caller_of)]
) -> ModelCard:
    """One of them, by any of its names: ``sql``, ``sql@2``, ``sql:stable``. A sum of adapters is in no list."""
    hub = service.hub
    key = key_of(hub, caller, model)
    if key is not None and is_expression(key):
        raise no_model(model)
    return _base_card(hub, hub.tiers()) if key is None else _card(hub, hub.info(key), model, hub.tiers())


def _base_card(hub: AdapterHub, tiers: dict[str, str]) -> ModelCard:
    return ModelCard(
        id=base_name(hub),
        created=0,
        root=base_name(hub),
        parent=None,
        variant=None,
        version=None,
        aliases=[],
        tags=[],
        tier="merged" if "" in tiers else "device",
        max_model_len=hub.max_sequence_tokens,
    )


def _card(hub: AdapterHub, info: AdapterInfo, name: str, tiers: dict[str, str]) -> ModelCard:
    return ModelCard.model_validate(
        {
            "id": name,
            "created": int(datetime.fromisoformat(info.registered_at).timestamp()),
            "root": info.key,
            "parent": base_name(hub),
            "variant": info.variant,
            "version": info.version,
            "aliases": list(info.aliases),
            "tags": list(info.tags),
            "tier": tiers.get(info.digest, "disk"),
            "max_model_len": hub.max_sequence_tokens,
        }
    )
