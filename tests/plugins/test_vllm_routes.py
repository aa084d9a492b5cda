"""vLLM's routes: a script that was written for vLLM, and what its answers look like there."""

from __future__ import annotations

import subprocess
import sys

import pytest

from adapter_hub import AdapterHub

from ..server.apps import bearer, client_of, make_app, save_some


@pytest.fixture(scope="module")
def root(bases, tmp_path_factory):
    return save_some(bases(), tmp_path_factory.mktemp("root"), "a", "b")


@pytest.fixture
def client(bases, root):
    with (
        AdapterHub.from_pretrained(bases(), quantization=None, device="cpu") as hub,
        client_of(make_app(hub, adapter_folders=f"{root}", watch_folders=False)) as client,
    ):
        hub.remove("a")  # found in the folder at the start
        hub.remove("b")
        client.hub = hub
        yield client


def load(client, **body):
    return client.post("/v1/load_lora_adapter", json=body)


def unload(client, **body):
    return client.post("/v1/unload_lora_adapter", json=body)


def refused(answer, status: int, kind: str) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert (error["type"], error["code"], error["param"]) == (kind, status, None)
    return error["message"]


def test_load_and_unload_answer_as_vllm_does(client, root):
    answer = load(client, lora_name="sql", lora_path=str(root / "a"))
    assert (answer.status_code, answer.text) == (200, "Success: LoRA adapter 'sql' added successfully.")
    assert client.hub.memory().adapters.keys() == {"sql@1"}
    answer = unload(client, lora_name="sql", lora_int_id=1)
    assert (answer.status_code, answer.text) == (200, "Success: LoRA adapter 'sql' removed successfully.")
    assert (client.hub.memory().adapters, client.hub.memory().host) == ({}, {})
    assert load(client, lora_name="sql", lora_path=str(root / "a")).status_code == 200


def test_a_name_that_is_loaded_is_replaced_only_in_place(client, root):
    load(client, lora_name="sql", lora_path=str(root / "a"))
    again = {"lora_name": "sql", "lora_path": str(root / "b")}
    message = refused(load(client, **again), 400, "InvalidUserInput")
    assert message == (
        "The lora adapter 'sql' has already been loaded. If you want to load the adapter in place, set "
        "'load_inplace' to True."
    )
    assert load(client, **again, load_inplace=True).status_code == 200
    assert client.hub.info("sql").key == "sql@2"
    assert client.hub.info("sql").resident


def test_what_is_missing_or_unknown_is_told_as_there(client, root):
    both = "Both 'lora_name' and 'lora_path' must be provided."
    assert refused(load(client, lora_name="", lora_path="x"), 400, "InvalidUserInput") == both
    assert refused(load(client, lora_name="x", lora_path=""), 400, "InvalidUserInput") == both
    needed = "'lora_name' needs to be provided to unload a LoRA adapter."
    assert refused(unload(client, lora_name=""), 400, "InvalidUserInput") == needed
    cannot = "The lora adapter 'nobody' cannot be found."
    assert refused(unload(client, lora_name="nobody"), 404, "NotFoundError") == cannot
    assert "does not exist" in refused(load(client, lora_name="x", lora_path=str(root / "x")), 404, "NotFoundError")


@pytest.mark.parametrize("path", ["/etc", "../..", "org/name", "a/../../x"])
def test_paths_stay_in_the_folders(client, path):
    refused(load(client, lora_name="x", lora_path=path), 403, "PermissionDeniedError")
    assert client.hub.adapters() == []


def test_a_key_sees_its_own(client, root):
    load(client, lora_name="sql", lora_path=str(root / "a"))
    _, secret = client.hub.registry.keys.create("med", ["admin"], ["med*"])
    client.headers.update(bearer(secret))
    cannot = "The lora adapter 'sql' cannot be found."
    assert refused(unload(client, lora_name="sql"), 404, "NotFoundError") == cannot
    assert load(client, lora_name="sql", lora_path=str(root / "a")).status_code == 403
    assert load(client, lora_name="med", lora_path=str(root / "b")).status_code == 200


def test_plugins_load_where_no_server_is_installed():
    program = (
        "import sys; sys.modules['fastapi'] = None\n"
        "from adapter_hub.plugin_manager import load_plugins\n"
        "assert any(info.server_routes for info in load_plugins().infos)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
