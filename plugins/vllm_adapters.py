"""vLLM's ``/v1/load_lora_adapter`` and ``/v1/unload_lora_adapter``, in the requests and answers of vLLM 0.33.

What differs: paths stay in the operator's folders and Hub repos among the allowed ones; a load is a registration,
which outlives a restart, and the same name with other content is its next version; an unload frees the memory, and a
later request for the name loads it again.
"""

from __future__ import annotations

import logging
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict

from adapter_hub.errors import AdapterHubError, NotRegistered
from adapter_hub.server.rights import Caller
from adapter_hub.server.service import Service, admin_of, service_of

_log = logging.getLogger("adapter_hub.vllm_routes")
router = APIRouter(tags=["vLLM"])


class LoadLoRAAdapterRequest(BaseModel):
    """What vLLM calls an adapter, and where it lies. Its ``is_3d_lora_weight`` is told from the file here."""

    model_config = ConfigDict(extra="ignore")  # as vLLM's own does
    lora_name: str
    lora_path: str
    load_inplace: bool = False


class UnloadLoRAAdapterRequest(BaseModel):
    """Which adapter; the number that vLLM gives it is not needed here, nor there."""

    model_config = ConfigDict(extra="ignore")
    lora_name: str
    lora_int_id: int | None = None


@router.post("/v1/load_lora_adapter")
async def load_lora_adapter(
    service: Annotated[Service, Depends(service_of)],
    caller: Annotated[Caller, Depends(admin_of)],
    request: LoadLoRAAdapterRequest,
) -> Response:
    """Register an adapter and bring it to the device."""
    name = request.lora_name
    if not name or not request.lora_path:
        return _refused(400, "InvalidUserInput", "Both 'lora_name' and 'lora_path' must be provided.")
    caller.hold_name(name)
    if not request.load_inplace and await service.run(_is_resident, service, name):
        return _refused(
            400,
            "InvalidUserInput",
            f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, set "
            "'load_inplace' to True.",
        )
    try:
        await service.run(_load, service, name, request.lora_path)
    except AdapterHubError as error:
        return _failed(caller.told(error))
    return _done(f"LoRA adapter '{name}' added successfully.")


@router.post("/v1/unload_lora_adapter")
async def unload_lora_adapter(
    service: Annotated[Service, Depends(service_of)],
    caller: Annotated[Caller, Depends(admin_of)],
    request: UnloadLoRAAdapterRequest,
) -> Response:
    """Free what an adapter takes on the device and in host memory."""
    name = request.lora_name
    if not name:
        return _refused(400, "InvalidUserInput", "'lora_name' needs to be provided to unload a LoRA adapter.")
    try:
        caller.hold_usable(name)
        await service.run(service.hub.unload, name)
    except NotRegistered:
        return _refused(404, "NotFoundError", f"The lora adapter '{name}' cannot be found.")
    except AdapterHubError as error:
        return _failed(caller.told(error))
    return _done(f"LoRA adapter '{name}' removed successfully.")


def _load(service: Service, name: str, path: str) -> None:
    service.hub.load_adapter(service.folders.reference(path), name)


def _is_resident(service: Service, name: str) -> bool:
    known = service.hub.versions(name) if service.hub.registry.knows(name) else []
    return any(info.resident for info in known)


def _done(text: str) -> Response:
    _log.info("%s", text)
    return PlainTextResponse(f"Success: {text}")


def _failed(error: AdapterHubError) -> Response:
    kind = "BadRequestError" if error.status < 500 else "InternalServerError"
    kind = {403: "PermissionDeniedError", 404: "NotFoundError"}.get(error.status, kind)
    return _refused(error.status, kind, str(error))


def _refused(status: int, kind: str, message: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": status}}, status)
