"""The adapter routes, over HTTP, on a tiny base."""

from __future__ import annotations

import pickle
import threading

import pytest
import torch

from adapter_hub import AdapterHub, Settings
from adapter_hub.errors import CorruptFile

from ..models import save_adapter
from ..until import SECONDS
from .apps import LoraConfig, client_of, make_app, save_some


@pytest.fixture(scope="module")
def root(bases, tmp_path_factory):
    return save_some(bases(), tmp_path_factory.mktemp("root"), "a", "b", "c")


@pytest.fixture
def hub(bases, tmp_path):
    at = {"registry": tmp_path / "r.sqlite3", "settings": Settings(cache_dir=str(tmp_path / "cache"))}
    with AdapterHub.from_pretrained(bases(), quantization=None, device="cpu", **at) as hub:
        yield hub


@pytest.fixture
def client(hub, root):
    # Without a life around it, so that nothing is discovered.
    from starlette.testclient import TestClient

    app = make_app(hub, adapter_folders=str(root))
    return TestClient(app, base_url="http://localhost", client=("127.0.0.1", 1), raise_server_exceptions=False)


def added(client, name: str, **fields: object) -> dict:
    answer = client.post("/v1/adapters", json={"source": name, "name": name, **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


def said(answer, status: int) -> str:
    assert answer.status_code == status, answer.text
    return answer.json()["error"]["message"]


def test_an_adapters_life(client, hub, root):
    first = added(client, "a", tags=["t"], pin=True, defaults={"temperature": 0.5, "system_prompt": "Be brief."})
    assert (first["key"], first["pinned"], first["tags"], first["resident"]) == ("a@1", True, ["t"], False)
    assert first["defaults"] == {"temperature": 0.5, "system_prompt": "Be brief."}
    assert first["files_exist"]
    assert client.post("/v1/adapters/a/load").json()["resident"]
    assert client.get("/v1/tiers").json()["adapters"].keys() == {"a@1"}
    assert client.post("/v1/adapters/a/merge", json={"pin": True}).json()["merged_sites"] > 0
    assert client.get("/v1/tiers").json()["merged"].keys() == {"a@1"}
    assert client.post("/v1/adapters/a/unmerge").status_code == 200
    assert not client.post("/v1/adapters/a/unload").json()["resident"]
    second = added(client, "a", source=str(root / "b"))
    assert (second["key"], second["current"], second["tags"]) == ("a@2", True, ["t"])
    assert second["defaults"] == first["defaults"]
    assert client.post("/v1/adapters/a/alias", json={"alias": "stable", "version": 1}).json()["aliases"] == ["stable"]
    assert client.get("/v1/adapters/a:stable").json()["version"] == 1
    assert "stands for" in said(client.delete("/v1/adapters/a@1"), 409)
    assert client.delete("/v1/adapters/a/alias/stable").json()["aliases"] == []
    assert client.post("/v1/adapters/a/rollback").json()["key"] == "a@1"
    assert client.post("/v1/adapters/a/rollback", json={"version": 2}).json()["key"] == "a@2"
    assert not client.post("/v1/adapters/a/unpin").json()["pinned"]
    assert client.post("/v1/adapters/a@1/pin").json()["pinned"]
    listed = client.get("/v1/adapters?all_versions=true&tag=t").json()["data"]
    assert [record["key"] for record in listed] == ["a@1", "a@2"]
    assert client.delete("/v1/adapters/a").json() == {"object": "adapter.deleted", "id": "a", "deleted": True}
    assert hub.adapters() == []


def test_pages_go_on_where_the_last_one_ended(client):
    for name in ("a", "b", "c"):
        added(client, name)
    seen, after = [], None
    while after or not seen:
        page = client.get("/v1/adapters", params={"limit": 2, **({"after": after} if after else {})}).json()
        seen += [record["name"] for record in page["data"]]
        after = page["next"]
    assert seen == ["a", "b", "c"]
    assert "limit" in said(client.get("/v1/adapters?limit=0"), 400)


def test_sums_are_loaded_and_composed(client, hub):
    added(client, "a")
    added(client, "b")
    record = client.post("/v1/adapters/a*0.5+b*0.5/load").json()
    assert (record["resident"], record["variant"]) == (True, "sum")
    mixed = client.post("/v1/adapters/compose", json={"name": "mix", "parents": {"a": 0.5, "b": 0.5}, "tags": ["m"]})
    assert (mixed.status_code, mixed.json()["tags"]) == (201, ["m"])
    assert mixed.json()["folder"].startswith(hub.settings.cache_dir)
    assert hub.generate("w1 w2", adapter="mix", max_new_tokens=4).text


@pytest.mark.parametrize("name", ["folder", "self", "work", "name", "tags", "seed", "nonsense"])
def test_an_option_of_a_method_is_nothing_else(client, tmp_path, name):
    added(client, "a")
    body = {"name": "mix", "parents": "a*0.5", "options": {name: str(tmp_path / "out")}}
    assert name in said(client.post("/v1/adapters/compose", json=body), 400)
    assert not (tmp_path / "out").exists()


def test_defaults_are_held_against_sampling(client):
    added(client, "a")
    for body, word in (
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_new_tokens": 2.5}, "max_new_tokens"),
        ({"ref": 1}, "'ref'"),
        ({"self": 1}, "'self'"),
        ({"system_prompt": ""}, "system_prompt"),
        ({"stop": [1]}, "stop"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
    ):
        assert word in said(client.patch("/v1/adapters/a/defaults", json=body), 400)
    body = {"stop": "END", "logit_bias": {"3": 1}, "top_p": 0.5}
    record = client.patch("/v1/adapters/a/defaults", json=body).json()
    assert record["defaults"] == {"stop": ["END"], "logit_bias": {"3": 1.0}, "top_p": 0.5}
    left = client.patch("/v1/adapters/a/defaults", json={"stop": None}).json()["defaults"]
    assert left.keys() == {"logit_bias", "top_p"}
    assert "'heat'" in said(
        client.post("/v1/adapters", json={"name": "b", "source": "b", "defaults": {"heat": 1}}), 400
    )
    assert client.get("/v1/adapters/b").status_code == 404


def test_what_is_not_known_in_a_body_is_refused_by_name(client):
    answer = client.post("/v1/adapters", json={"name": "a", "source": "a", "allow_pickle": True})
    assert "allow_pickle is not supported" in said(answer, 400)


def test_a_reference_is_never_taken_for_a_path(client, hub, root, monkeypatch):
    monkeypatch.chdir(root)  # where "a" is a folder with an adapter in it
    for ref in ("a", "a*1", "a*0.5+b*0.5", "...", "a%2F..%2Fb"):
        assert client.post(f"/v1/adapters/{ref}/load").status_code == 404, ref
    assert hub.adapters() == []


def test_files_are_told_of_without_being_registered(client, hub):
    found = client.post("/v1/adapters/inspect", json={"source": "a"}).json()
    assert (found["format"], len(found["sites"]), found["refused"]) == ("peft", 4, [])
    assert hub.adapters() == []


def test_nothing_outside_of_the_folders_is_read(client, hub, bases, tmp_path):
    other = save_adapter(bases(), tmp_path / "other", LoraConfig(r=2, target_modules=["q_proj"]))
    for source in (str(other), "../other", f"{tmp_path}/root/../other", "my-org/other"):
        for path, body in (("", {"name": "x", "source": source}), ("/inspect", {"source": source})):
            said(client.post(f"/v1/adapters{path}", json=body), 403)
    assert hub.adapters() == []


def test_a_pickle_is_refused(client, root, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "boom"), "w"))

    folder = root / "pickled"
    folder.mkdir()
    (folder / "adapter_config.json").write_text((root / "a" / "adapter_config.json").read_text())
    for content in (pickle.dumps(Bomb()), None):
        if content is None:
            torch.save({"x": torch.zeros(1)}, folder / "adapter_model.bin")
        else:
            (folder / "adapter_model.bin").write_bytes(content)
        for path, body in (("", {"name": "x", "source": "pickled"}), ("/inspect", {"source": "pickled"})):
            assert "pickle" in said(client.post(f"/v1/adapters{path}", json=body), 422)
    assert not (tmp_path / "boom").exists()


def test_files_that_were_swapped_after_they_were_registered_are_refused(client, hub, bases, root):
    save_adapter(bases(), root / "swapped", LoraConfig(r=2, target_modules=["q_proj"]), seed=7)
    added(client, "swapped")
    good = (root / "swapped" / "adapter_model.safetensors").read_bytes()
    (root / "swapped" / "adapter_model.safetensors").write_bytes(good[:-4] + b"\1\2\3\4")
    assert "not what was registered" in said(client.post("/v1/adapters/swapped/load"), 422)
    with pytest.raises(CorruptFile):
        hub.generate("w1", adapter="swapped")
    (root / "swapped" / "adapter_model.safetensors").write_bytes(good)
    assert client.post("/v1/adapters/swapped/load").json()["resident"]


def test_what_is_gone_is_told(client, bases, root):
    save_adapter(bases(), root / "gone", LoraConfig(r=2, target_modules=["q_proj"]), seed=8)
    added(client, "gone")
    for path in (root / "gone").iterdir():
        path.unlink()
    (root / "gone").rmdir()
    assert client.get("/v1/adapters/gone").json()["files_exist"] is False


def test_an_adapter_in_use_is_not_unloaded(client, hub):
    added(client, "a")
    with hub.rows(["a"]):
        assert "serves 1 rows" in said(client.post("/v1/adapters/a/unload"), 409)
    assert client.post("/v1/adapters/a/unload").status_code == 200


def test_long_work_leaves_the_server_free(client, hub, monkeypatch):
    """While registrations hang, others are answered."""
    go, begun = threading.Event(), threading.Semaphore(0)
    register = hub.register

    def slow(*arguments: object, **named: object) -> object:
        begun.release()
        assert go.wait(SECONDS)
        return register(*arguments, **named)

    with client:  # registers what lies in the folder
        monkeypatch.setattr(hub, "register", slow)
        threads = [threading.Thread(target=added, args=(client, name), kwargs={"source": "a"}) for name in ("x", "y")]
        for thread in threads:
            thread.start()
        try:
            for _ in threads:
                assert begun.acquire(timeout=SECONDS)
            assert client.get("/v1/adapters/a").status_code == 200
            assert client.get("/v1/adapters/x").status_code == 404
        finally:
            go.set()
            for thread in threads:
                thread.join()
    assert {"x", "y"} <= {info.name for info in hub.adapters()}


def test_what_was_registered_is_there_after_a_restart(client, hub, bases, tmp_path):
    added(client, "a", defaults={"top_p": 0.5})
    _, secret = hub.registry.keys.create("team", ["admin"])
    hub.close()
    with (
        AdapterHub.from_pretrained(bases(), quantization=None, device="cpu", registry=tmp_path / "r.sqlite3") as again,
        client_of(make_app(again), secret) as other,
    ):
        assert other.get("/v1/adapters/a").json()["defaults"] == {"top_p": 0.5}
        assert other.get("/v1/adapters", headers={"authorization": ""}).status_code == 401


def test_plugins_are_told(client):
    found = {plugin["name"]: plugin for plugin in client.get("/v1/plugins").json()}
    assert found["local-folder"]["sources"] == ["folder"]
    assert found["vllm-routes"]["server_routes"] == ["vllm-routes"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "/a/defaults", b'{"system_prompt": "\\ud800"}'),
        ("PATCH", "/a/defaults", b'{"stop": ["\\ud800"]}'),
        ("PATCH", "/a/defaults", b'{"\\ud800": 1}'),
        ("PATCH", "/a/defaults", b'{"temperature": NaN}'),
        ("PATCH", "/a/defaults", b'{"logit_bias": {"5": Infinity}}'),
        ("PATCH", "/a/defaults", b"[1]"),
        ("POST", "", b'{"name": "x", "source": "a", "options": {"alpha": "\\ud800"}}'),
        ("POST", "", b'{"name": "x", "source": "a", "options": {"alpha": 1e999}}'),
        ("POST", "", b'{"name": "x", "source": "a", "tags": ["\\ud800"]}'),
        ("POST", "", b'{"name": "x", "source": "a", "revision": "main"}'),
        ("POST", "", b'{"name": "\\ud800", "source": "a"}'),
        ("POST", "/compose", b'{"name": "x", "parents": {"a": 1e999}}'),
        ("POST", "/compose", b'{"name": "x", "parents": {"a": NaN}}'),
        ("POST", "/compose", b'{"name": "x", "parents": {}}'),
        ("POST", "/compose", b'{"name": "x", "parents": ""}'),
        ("POST", "/compose", b'{"name": "x", "parents": "a", "method": "magic"}'),
        ("POST", "/a/alias", b'{"alias": "1"}'),
        ("POST", "/a@1/rollback", b"{}"),
        ("GET", "?after=*", b""),
        ("GET", "?tag=%ED%A0%80%00", b""),
        ("GET", "/%ED%A0%80", b""),
        ("GET", "/a%00", b""),
    ],
)
def test_odd_requests_are_the_clients_fault(client, method, path, body):
    added(client, "a")
    answer = client.request(method, f"/v1/adapters{path}", content=body, headers={"content-type": "application/json"})
    assert 200 <= answer.status_code < 500, answer.text
    assert method == "GET" or answer.status_code >= 400
    assert client.get("/v1/adapters").status_code == 200
