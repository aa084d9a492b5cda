"""What a key may do over HTTP, and what it learns of adapters that are not its own."""

from __future__ import annotations

import logging
import shutil
from unittest.mock import patch

import pytest

from adapter_hub.errors import (
    RegistryError,
)
from adapter_hub.loading import AdapterLoader
from adapter_hub.store import Keys, Registry

from .apps import asking, bearer, client_of, make_app, save_some, use


@pytest.fixture(scope="module")
def served(bases, tmp_path_factory):
    """A hub with adapters sql, sql-old and secret, and the folder that they lie in."""
    from adapter_hub import AdapterHub

    root = save_some(bases(), tmp_path_factory.mktemp("root"), "sql", "sql-old", "secret", "broken")
    with AdapterHub.from_pretrained(bases(), quantization=None, device="cpu") as hub:
        for name in ("sql", "sql-old", "secret"):
            hub.register(name, root / name)
        hub.alias("secret", "stable")
        yield hub, root


@pytest.fixture(scope="module")
def secrets(served):
    """Secrets of keys by name: ``mine`` infers on sql*, ``all`` on everything, ``boss`` is an admin."""
    create = served[0].registry.keys.create
    return {
        "mine": create("mine", ["infer"], ["sql*"])[1],
        "all": create("all", ["infer"])[1],
        "boss": create("boss", ["admin", "infer"])[1],
        "clerk": create("clerk", ["admin"], ["sql*"])[1],
    }


@pytest.fixture(scope="module")
def client(served, secrets):
    assert secrets  # made before the first request
    with client_of(make_app(served[0])) as client:
        yield client


FORBIDDEN = (
    "secret",
    "secret@1",
    "secret@9",
    "secret:stable",
    "secret:nothing",
    "secret*0.5",
    "sql*0.5+secret*0.5",
    "secret@1*0.5+sql*0.5",
    "sql*0.5+secret:stable*0.5",
)


@pytest.mark.parametrize("model", FORBIDDEN)
@pytest.mark.parametrize("who", ["mine", "clerk"])
def test_a_forbidden_adapter_is_one_that_does_not_exist(client, secrets, model, who):
    """Status, words and headers are the same for what exists and for what does not, but for the name asked for."""
    unknown = model.replace("secret", "nobody")
    ways = []
    if who == "mine":
        answers = [use(client, name, secrets[who]) for name in (model, unknown)]
        _hold_alike(answers, f"there is no model {model!r}.")
        answers = [client.get(f"/v1/models/{name}", headers=bearer(secrets[who])) for name in (model, unknown)]
        _hold_alike(answers, f"there is no model {model!r}.")
    else:
        ways = [
            *(("GET", "/v1/adapters/{}", None), ("DELETE", "/v1/adapters/{}", None)),
            *(("POST", f"/v1/adapters/{{}}/{verb}", None) for verb in ("load", "unload", "pin", "unpin", "merge")),
            ("POST", "/v1/adapters/{}/alias", {"alias": "x"}),
            ("PATCH", "/v1/adapters/{}/defaults", {"temperature": 1}),
        ]
    for method, path, body in ways:
        answers = [
            client.request(method, path.format(name), json=body, headers=bearer(secrets[who]))
            for name in (model, unknown)
        ]
        _hold_alike(answers, "no adapter is registered as 'secret'.")


def _hold_alike(answers, said):
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].text == answers[1].text.replace("nobody", "secret")
    assert answers[0].json()["error"]["message"] == said
    assert dict(answers[0].headers).keys() == dict(answers[1].headers).keys()


@pytest.mark.parametrize("model", ["secret", "sql*0.5+secret*0.5", "nobody", "sql*0.5+nobody*0.5"])
def test_what_is_forbidden_or_unknown_touches_nothing(served, client, secrets, model):
    hub, _ = served
    with (
        patch.object(Registry, "knows", side_effect=AssertionError),
        patch.object(Registry, "get", side_effect=AssertionError),
        patch.object(Registry, "resolve", side_effect=AssertionError),
        patch.object(AdapterLoader, "fetch", side_effect=AssertionError),
        patch.object(AdapterLoader, "digest", side_effect=AssertionError),
        patch.object(hub._residents, "voice", side_effect=AssertionError),
    ):
        answer = use(client, model, secrets["mine"])
    assert answer.status_code == 404
    assert hub.info("secret").uses == 0


def test_what_is_missing_among_ones_own_names_no_others(client, secrets):
    for model in ("sql-new", "sql*0.5+sql-new*0.5"):
        answer = use(client, model, secrets["mine"])
        assert answer.json()["error"]["message"].startswith(f"there is no model {model!r}.")
    assert "secret" not in use(client, "sql@9", secrets["mine"]).text
    listed = {who: client.get("/v1/models", headers=bearer(secrets[who])).json()["data"] for who in ("mine", "all")}
    names = {who: {card["id"] for card in cards[1:]} for who, cards in listed.items()}
    assert (names["mine"], names["all"]) == ({"sql", "sql-old"}, {"sql", "sql-old", "secret"})


def test_even_if_an_adapter_goes_between_the_question_and_the_use_no_other_is_named(client, secrets):
    with patch.object(Registry, "knows", return_value=True):
        answer = use(client, "sql-gone", secrets["mine"])
    assert answer.json()["error"]["message"].startswith("there is no model 'sql-gone'.")


def test_what_is_ones_own_is_served(client, secrets):
    for model in ("sql", "sql@1", "sql-old", "sql*0.5+sql-old*0.5"):
        assert use(client, model, secrets["mine"]).status_code == 200, model
    assert use(client, "secret", secrets["all"]).status_code == 200


def test_scopes_are_apart(client, secrets):
    for method, path in (
        ("GET", "/v1/adapters"),
        ("POST", "/v1/adapters"),
        ("GET", "/v1/adapters/sql"),
        ("GET", "/v1/tiers"),
        ("GET", "/v1/plugins"),
        ("POST", "/v1/load_lora_adapter"),
        ("POST", "/v1/unload_lora_adapter"),
    ):
        answer = client.request(method, path, headers=bearer(secrets["all"]), json={})
        assert answer.status_code == 403, path
        assert "has not the scope 'admin'" in answer.json()["error"]["message"]
        answer = client.request(method, path, json={})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    answer = use(client, "sql", secrets["clerk"])
    assert (answer.status_code, "'infer'" in answer.text) == (403, True)


def test_an_admin_of_some_adapters_lists_and_names_those(served, client, secrets):
    hub, root = served
    clerk = bearer(secrets["clerk"])
    names = [record["name"] for record in client.get("/v1/adapters", headers=clerk).json()["data"]]
    assert names == ["sql", "sql-old"]
    page = client.get("/v1/adapters?limit=1", headers=clerk).json()
    assert ([each["name"] for each in page["data"]], page["next"]) == (["sql"], "sql")
    rest = client.get("/v1/adapters?limit=1&after=sql", headers=clerk).json()
    assert ([each["name"] for each in rest["data"]], rest["next"]) == (["sql-old"], None)
    hub.make_resident("secret")
    hub.make_resident("sql")
    assert "secret" not in client.get("/v1/tiers", headers=clerk).text
    assert "secret@1" in client.get("/v1/tiers", headers=bearer(secrets["boss"])).json()["adapters"]
    bodies = {
        "/v1/adapters": {"name": "secret", "source": "x"},
        "/v1/adapters/compose": {"name": "mix", "parents": "sql"},
        "/v1/load_lora_adapter": {"lora_name": "secret", "lora_path": str(root / "sql")},
    }
    for path, body in bodies.items():
        answer = client.post(path, headers=clerk, json=body)
        assert answer.status_code == 403, path
        assert "may not name an adapter" in answer.text
    answer = client.post("/v1/adapters/compose", headers=clerk, json={"name": "sql-x", "parents": {"secret": 1.0}})
    assert answer.status_code == 404


def test_who_only_infers_reads_no_paths_and_the_log_has_them(served, client, secrets, caplog):
    hub, root = served
    hub.register("sql-broken", root / "broken")
    shutil.rmtree(root / "broken")
    try:
        with caplog.at_level(logging.WARNING, "adapter_hub.server.rights"):
            answer = use(client, "sql-broken", secrets["mine"])
        assert answer.status_code == 404
        assert answer.json()["error"]["message"] == "the adapter cannot be served. The server's log says why."
        assert str(root) not in answer.text
        assert str(root / "broken") in caplog.text
        answer = use(client, "sql-broken", secrets["boss"])
        assert str(root / "broken") in answer.text
    finally:
        hub.remove("sql-broken")


def test_a_key_that_is_made_or_revoked_counts_at_the_next_request(served, client):
    hub, _ = served
    _, secret = hub.registry.keys.create("brief")
    assert use(client, "sql", secret).status_code == 200
    hub.registry.keys.revoke("brief")
    assert use(client, "sql", secret).status_code == 401


def test_a_key_at_its_limit_is_told_when_to_come_back(served, client, monkeypatch):
    hub, _ = served
    monkeypatch.setattr(client.app.state.service.limits, "_clock", lambda: 0.0)  # or it would fill up meanwhile
    _, secret = hub.registry.keys.create("slow", requests_per_minute=2, tokens_per_minute=1000)
    served = use(client, "sql", secret)
    assert (served.status_code, served.headers["x-ratelimit-remaining-requests"]) == (200, "1")
    with client.stream(
        "POST", "/v1/completions", json={**asking("sql"), "stream": True}, headers=bearer(secret)
    ) as sent:
        assert (sent.status_code, sent.headers["x-ratelimit-remaining-requests"]) == (200, "0")
        sent.read()
    answer = use(client, "sql", secret)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert answer.headers["retry-after"] == "30"
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert 980 <= int(answer.headers["x-ratelimit-remaining-tokens"]) < 994  # two prompts and two tokens of each
    hub.registry.keys.revoke("slow")


def test_a_registry_that_fails_names_no_file_to_whoever_knocks(client):
    with patch.object(Keys, "find", side_effect=RegistryError("the registry /srv/r.sqlite3 failed.")):
        answer = client.get("/v1/adapters", headers=bearer("ahk_00000000_x"))
    assert (answer.status_code, "/srv" in answer.text) == (500, False)
