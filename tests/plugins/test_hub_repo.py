"""The real client of the Hub against a small Hub on loopback."""

from __future__ import annotations

import errno
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from huggingface_hub import close_session, constants
from safetensors.torch import save

from adapter_hub.config import Settings
from adapter_hub.errors import SourceError, SourceForbidden, SourceNotFound, SourceUnreachable, UnsafeFile
from plugins import hub_repo
from plugins.hub_repo import HubRepo
from plugins.peft_folder import PeftFolder

from ..hub_server import READER, STRANGER, HubServer, commit_of, refusing_url

REPO = "org/sql-lora"
CONFIG = b'{"peft_type": "LORA", "r": 2}'
WEIGHTS = save({"base_model.model.lm_head.lora_A.weight": torch.ones(2, 4)})
ADAPTER = {"adapter_config.json": CONFIG, "adapter_model.safetensors": WEIGHTS}
SETTINGS, OFFLINE = Settings(), Settings(offline=True)


@pytest.fixture(autouse=True)
def _own_machine(monkeypatch, tmp_path):
    """No login, proxy or switch of whoever runs the tests, and no request but to the test's own hub."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    close_session()
    yield
    close_session()


@pytest.fixture
def hub():
    with HubServer() as server:
        yield server


@pytest.fixture
def source(hub, tmp_path):
    return HubRepo(hub.url, tmp_path / "cache")


@pytest.fixture
def unreachable(tmp_path):  # the same cache, and a Hub that refuses connections
    return HubRepo(refusing_url(), tmp_path / "cache")


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("ref", ["org/name", "org.x/na_me-1.5"])
def test_references_of_the_hub(source, ref):
    assert source.can_fetch(ref)


NO_REPOS = ["", "/", "name", "org/", "org/name/sub", "org/na me", "org/na--me", "a/" + 500 * "n"]
PATHS = ["/org/name", "/name", "./name", "../name", "~/name", ".org/name"]


@pytest.mark.parametrize("ref", NO_REPOS + PATHS)
def test_references_of_others(source, ref):
    assert not source.can_fetch(ref)


def test_an_existing_folder_is_not_the_hubs(source, tmp_path, monkeypatch):
    (tmp_path / "org/name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert not source.can_fetch("org/name")


def test_main_is_fetched_with_the_files_of_an_adapter_only(hub, source):
    tokenizer = {"tokenizer.model": b"t", "merges.txt": b"m", "vocab.json": b"{}", "chat_template.jinja": b"{{ }}"}
    trainer = ["optimizer.pt", "training_args.bin", "trainer_state.json", "checkpoint-5/adapter_model.safetensors"]
    others = dict.fromkeys(["README.md", "requirements.txt", *trainer], b"x")
    commit = hub.add_repo(REPO, ADAPTER | tokenizer | others)
    fetched = source.fetch(REPO, None, SETTINGS)
    assert fetched.revision == commit
    assert names(fetched.folder) == sorted(hub.downloads()) == sorted(ADAPTER | tokenizer)
    assert PeftFolder().detect(fetched.folder)
    assert list(PeftFolder().read(fetched.folder, SETTINGS).tensors) == ["lm_head.lora_A.weight"]


@pytest.mark.parametrize("revision", ["dev", "refs/pr/1", commit_of("second")])
def test_a_revision_is_fetched_and_resolved(hub, source, revision):
    hub.add_repo(REPO, ADAPTER)
    for branch in ("dev", "refs/pr/1"):
        hub.add_repo(REPO, ADAPTER | {"adapter_config.json": b"{}"}, commit_of("second"), branch=branch)
    fetched = source.fetch(REPO, revision, SETTINGS)
    assert fetched.revision == commit_of("second")
    assert (fetched.folder / "adapter_config.json").read_bytes() == b"{}"


def test_a_second_fetch_takes_the_cache(hub, source):
    commit = hub.add_repo(REPO, ADAPTER)
    first = source.fetch(REPO, None, SETTINGS)
    hub.requests.clear()
    assert source.fetch(REPO, None, SETTINGS) == first
    assert hub.downloads() == []
    hub.requests.clear()
    assert source.fetch(REPO, commit, SETTINGS) == first
    assert hub.requests == []  # a commit never changes
    hub.add_repo(REPO, ADAPTER | {"adapter_config.json": b"{}"}, commit_of("second"))
    assert source.fetch(REPO, "main", SETTINGS).revision == commit_of("second")
    assert hub.downloads() == ["adapter_config.json"]  # the weights did not change


def test_pickles_come_only_when_allowed(hub, source):
    commit = hub.add_repo(REPO, {"adapter_config.json": CONFIG, "adapter_model.bin": b"pickle", "scheduler.pt": b""})
    with pytest.raises(UnsafeFile, match=r"at revision main .*adapter_model\.bin\).*allow_pickle"):
        source.fetch(REPO, None, SETTINGS)
    assert hub.downloads() == ["adapter_config.json"]
    for revision in (None, commit):
        fetched = source.fetch(REPO, revision, Settings(allow_pickle=True))
        assert names(fetched.folder) == ["adapter_config.json", "adapter_model.bin"]
    hub.add_repo("org/both", ADAPTER | {"adapter_model.bin": b"pickle"})
    assert names(source.fetch("org/both", None, SETTINGS).folder) == sorted(ADAPTER)


def test_a_repo_without_an_adapter_says_what_it_holds(hub, source):
    hub.add_repo(REPO, {"README.md": b"#", "sub/adapter_model.safetensors": WEIGHTS})
    with pytest.raises(SourceNotFound, match=r"it has README\.md, sub/adapter_model\.safetensors"):
        source.fetch(REPO, None, SETTINGS)


def test_the_login_is_sent_and_opens_a_private_repo(hub, source, monkeypatch):
    hub.add_repo(REPO, ADAPTER, private=True)
    monkeypatch.setenv("HF_TOKEN", READER)
    assert names(source.fetch(REPO, None, SETTINGS).folder) == sorted(ADAPTER)
    assert {request.token for request in hub.requests} == {READER}
    monkeypatch.setenv("HF_TOKEN", STRANGER)
    with pytest.raises(SourceNotFound):  # the Hub has answered: its refusal is not made good from the cache
        source.fetch(REPO, None, SETTINGS)


@pytest.mark.parametrize(
    ("repo", "revision", "token", "kind", "words"),
    [
        ("org/missing", None, None, SourceNotFound, "no such repo, or it is private.*hf auth login"),
        ("org/missing", "v1", STRANGER, SourceNotFound, "org/missing at revision v1 .*404.*private"),
        ("org/private", None, None, SourceNotFound, "no such repo, or it is private.*HF_TOKEN"),
        ("org/private", None, STRANGER, SourceNotFound, "no such repo, or it is private"),
        ("org/public", "v9", None, SourceNotFound, "org/public at revision v9 .*the revision is not"),
        ("org/public", commit_of("none"), None, SourceNotFound, "the revision is not"),
        ("org/gated", None, None, SourceForbidden, "org/gated at revision main is gated.*Accept them at .*org/gated"),
        ("org/gated", None, STRANGER, SourceForbidden, "is gated.*hf auth login"),
        ("org/public", None, "hf_expired", SourceForbidden, "Invalid credentials.*expired"),
        ("org/na me", None, None, SourceNotFound, "not well-formed"),
        ("org/public", "../../x", None, SourceNotFound, "not well-formed"),
        ("org/public", "", None, SourceNotFound, "not well-formed"),
    ],
)
def test_what_the_hub_refuses(hub, source, monkeypatch, repo, revision, token, kind, words):
    hub.add_repo("org/public", ADAPTER)
    hub.add_repo("org/private", ADAPTER, private=True)
    hub.add_repo("org/gated", ADAPTER, gated=True)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(kind, match=words) as caught:
        source.fetch(repo, revision, SETTINGS)
    assert caught.value.hint
    assert hub.downloads() == []


@pytest.mark.parametrize("revision", [None, "dev", commit_of("first")])
def test_without_a_network_the_cache_serves(hub, source, unreachable, caplog, revision):
    hub.add_repo(REPO, ADAPTER)
    hub.add_repo(REPO, ADAPTER, branch="dev")
    fetched = source.fetch(REPO, revision, SETTINGS)
    assert unreachable.fetch(REPO, revision, SETTINGS) == fetched
    if revision != commit_of("first"):
        assert "is read from the cache" in caplog.text


@pytest.mark.parametrize("revision", [None, commit_of("first")])
@pytest.mark.parametrize(
    "endpoint", [refusing_url(), "http://hub.invalid", "http://["], ids=["refusing", "unknown", "garbled"]
)
def test_without_a_network_or_cache_it_fails_soon(tmp_path, endpoint, revision, monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)  # as the client does between its tries
    with pytest.raises(SourceUnreachable, match=r"cannot be reached for org/sql-lora at .* not in the local cache"):
        HubRepo(endpoint, tmp_path).fetch(REPO, revision, SETTINGS)
    assert sum(waits) < 2


def test_a_hub_that_never_answers(hub, source, monkeypatch):
    hub.add_repo(REPO, ADAPTER)
    fetched = source.fetch(REPO, None, SETTINGS)
    monkeypatch.setattr(hub_repo, "ANSWER_SECONDS", 0.2)
    hub.fall_silent()
    assert source.fetch(REPO, None, SETTINGS) == fetched
    with pytest.raises(SourceUnreachable, match="timed out"):
        source.fetch(REPO, commit_of("other"), SETTINGS)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_that_is_down(hub, source, status):
    hub.add_repo(REPO, ADAPTER)
    hub.status = status
    with pytest.raises(SourceUnreachable, match=f"answers {status} for org/sql-lora at revision main"):
        source.fetch(REPO, None, SETTINGS)
    hub.status = None
    fetched = source.fetch(REPO, None, SETTINGS)
    hub.status = status
    assert source.fetch(REPO, None, SETTINGS) == fetched


def test_a_download_that_is_cut_goes_on_where_it_ended(hub, source, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10)  # what the client keeps when a connection breaks
    hub.add_repo(REPO, {"adapter_model.safetensors": WEIGHTS})
    hub.cut_after = 10
    fetched = source.fetch(REPO, None, SETTINGS)
    assert (fetched.folder / "adapter_model.safetensors").read_bytes() == WEIGHTS
    assert [request.range for request in hub.requests if request.range] == ["bytes=10-"]


def test_a_download_that_fails_leaves_nothing_that_passes_for_whole(hub, source, unreachable):
    commit = hub.add_repo(REPO, ADAPTER | {"tokenizer.json": b"{}"})
    hub.cut_after, hub.status_after_cut = 1, 410  # a status that the client does not retry for 23 s
    with pytest.raises(SourceError, match="answers 410"):
        source.fetch(REPO, None, SETTINGS)
    hub.status = None
    for revision in ("main", commit):
        with pytest.raises(SourceUnreachable, match="not wholly, in the local cache"):
            source.fetch(REPO, revision, OFFLINE)
        with pytest.raises(SourceUnreachable, match="cannot be reached"):
            unreachable.fetch(REPO, revision, SETTINGS)
    assert names(source.fetch(REPO, commit, SETTINGS).folder) == sorted(ADAPTER | {"tokenizer.json": b"{}"})


def test_offline_asks_nobody(hub, source):
    commit = hub.add_repo(REPO, ADAPTER)
    with pytest.raises(SourceUnreachable, match=r"the setting offline forbids.*Fetch it once"):
        source.fetch(REPO, None, OFFLINE)
    assert hub.requests == []
    fetched = source.fetch(REPO, None, SETTINGS)
    hub.requests.clear()
    assert source.fetch(REPO, None, OFFLINE) == source.fetch(REPO, commit, OFFLINE) == fetched
    assert hub.requests == []


def test_the_librarys_own_offline_switch_counts_too(hub, source, monkeypatch):
    hub.add_repo(REPO, ADAPTER)
    fetched = source.fetch(REPO, None, SETTINGS)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert source.fetch(REPO, None, SETTINGS) == fetched
    with pytest.raises(SourceUnreachable, match="HF_HUB_OFFLINE forbids"):
        source.fetch(REPO, "dev", SETTINGS)


def test_an_address_where_no_hub_answers(hub, source):
    hub.wrong_answer = b"<html>Please log in to this network</html>"
    with pytest.raises(
        SourceError, match=r"download of org/sql-lora at revision main .*not a Hub's.*HF_ENDPOINT"
    ) as caught:
        source.fetch(REPO, None, SETTINGS)
    assert type(caught.value) is SourceError
    hub.wrong_answer = None
    with pytest.raises(SourceError, match="answers 404"):
        HubRepo(f"{hub.url}/elsewhere", source.cache_dir).fetch(REPO, None, SETTINGS)


def test_a_cache_that_cannot_be_written(hub, tmp_path, monkeypatch):
    hub.add_repo(REPO, ADAPTER)
    (tmp_path / "file").touch()
    with pytest.raises(SourceError, match=r"cannot be kept in the cache .*/file.*HF_HUB_CACHE"):
        HubRepo(hub.url, tmp_path / "file").fetch(REPO, None, SETTINGS)
    full = Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
    monkeypatch.setattr(hub_repo, "snapshot_download", full)  # a disk to fill would take the right to mount one
    with pytest.raises(SourceError, match=r"the disk is full\. Make room"):
        HubRepo(hub.url, tmp_path).fetch(REPO, None, SETTINGS)


def test_the_librarys_progress_bar_is_shown(hub, source, monkeypatch, capsys):
    monkeypatch.setenv("TQDM_POSITION", "-1")  # the library's switch for bars where stderr is no terminal
    hub.add_repo(REPO, ADAPTER)
    source.fetch(REPO, None, SETTINGS)
    assert "Fetching 2 files: 100%" in capsys.readouterr().err


def test_endpoint_and_cache_are_the_librarys_unless_given(hub, tmp_path, monkeypatch):
    hub.add_repo(REPO, ADAPTER)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)  # what HF_ENDPOINT and HF_HUB_CACHE set at import
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "library"))
    (source,) = hub_repo.adapter_hub_sources()
    folder = source.fetch(REPO, None, SETTINGS).folder
    assert names(folder) == sorted(ADAPTER)
    assert folder.is_relative_to(tmp_path / "library")


def test_the_files_of_other_tools_come_along(hub, source):
    hub.add_repo(REPO, {"x.gguf": b"GGUF", "README.md": b"#"})
    assert names(source.fetch(REPO, None, SETTINGS).folder) == ["x.gguf"]
    litgpt = {"lit_model.pth.lora": b"pickle", "hyperparameters.yaml": b"lora_r: 2"}
    hub.add_repo("org/litgpt", litgpt)
    with pytest.raises(UnsafeFile, match=r"lit_model\.pth\.lora"):
        source.fetch("org/litgpt", None, SETTINGS)
    assert names(source.fetch("org/litgpt", None, Settings(allow_pickle=True)).folder) == sorted(litgpt)
