"""The registry in a real browser: adapters are moved, rolled back and added; a page without rights does none of it."""

from __future__ import annotations

import httpx
import pytest
import torch
from playwright.sync_api import expect
from safetensors.torch import load_file, save_file

from adapter_hub.loading import STEPS
from demo.access import Access

from .browser import PATIENCE, write_adapter
from .conftest import start_page

WEIGHTS = "adapter_model.safetensors"


def _pick(session, name):
    session.page.locator("#hub-picked input").click()
    session.page.get_by_role("option", name=name, exact=True).click()
    expect(session.page.locator("#hub-effect .hub-heat")).to_contain_text("sites are changed", timeout=PATIENCE)


def _press(session, name):
    button = session.page.get_by_role("button", name=name, exact=True)
    expect(button).to_be_enabled(timeout=PATIENCE)
    button.click()


def _row(session, name):
    return session.page.locator("#hub-registry tr", has=session.page.get_by_role("rowheader", name=name, exact=True))


@pytest.fixture
def session(sessions):
    opened = sessions()
    opened.tab("Adapters")
    return opened


def test_the_registry_is_a_table_and_an_adapter_is_moved_by_buttons(session, served):
    name = "tags"
    served.hub.unload(name)
    expect(session.page.locator("#hub-registry tbody tr")).to_have_count(len(served.hub.adapters()), timeout=PATIENCE)
    expect(_row(session, name)).to_contain_text("disk")
    _pick(session, name)
    said = session.page.locator("#hub-said")
    _press(session, "Load")
    expect(said).to_contain_text("is on the device now: it came from disk", timeout=PATIENCE)
    expect(_row(session, name)).to_contain_text("device")
    assert served.hub.tier(name) == "device"
    _press(session, "Pin")
    expect(_row(session, name)).to_contain_text("pinned", timeout=PATIENCE)
    assert served.hub.info(name).pinned
    _press(session, "Merge")
    expect(said).to_contain_text("are merged into", timeout=PATIENCE)
    assert f"{name}@1" in served.hub.memory().merged
    _press(session, "Unmerge")
    expect(said).to_contain_text("by its factors again", timeout=PATIENCE)
    _press(session, "Unpin")
    expect(said).to_contain_text("may make way", timeout=PATIENCE)
    _press(session, "Unload")
    expect(said).to_contain_text("is off the device", timeout=PATIENCE)
    assert served.hub.tier(name) == "disk"
    expect(session.page.get_by_role("button", name="Roll back")).to_be_disabled()


def test_what_is_in_use_is_refused_in_a_sentence_and_the_page_lives_on(session, served):
    name = "dates"
    _pick(session, name)
    with served.hub.rows([name]):
        session.page.locator("#hub-picked input").click()
        session.page.get_by_role("option", name=name, exact=True).click()
        _press(session, "Unload")
        expect(session.page.locator("#hub-said .hub-notice")).to_contain_text("serves 1 rows", timeout=PATIENCE)
    _press(session, "Unload")
    expect(session.page.locator("#hub-said")).to_contain_text("is off the device", timeout=PATIENCE)


def test_the_heat_map_shows_each_site_of_each_layer(session, served):
    _pick(session, "sql")
    effects = served.hub.effects("sql")
    cells = session.page.locator("#hub-effect .hub-grid td[title]")
    expect(cells).to_have_count(len(effects), timeout=PATIENCE)
    most = max(effects, key=lambda effect: effect.share)
    expect(session.page.locator("#hub-effect .hub-heat")).to_contain_text(most.path)


def test_uploaded_files_become_an_adapter_with_its_proof_and_a_second_version_is_rolled_back(session, served, folder):
    page, hub = session.page, served.hub
    for seed in (1, 2):
        files = write_adapter(folder / f"v{seed}", seed=seed, strength=0.5)
        page.locator("#hub-files input[type=file]").set_input_files([*map(str, files.iterdir())])
        expect(page.locator("#hub-files")).to_contain_text(WEIGHTS.partition(".")[0], timeout=PATIENCE)
        page.locator("#hub-name input, #hub-name textarea").fill("mine")
        page.locator("#hub-add-run").click()
        expect(page.locator("#hub-proof-lines .hub-passed")).to_have_count(len(STEPS) + 1, timeout=PATIENCE)
        expect(page.locator("#hub-proof-lines")).to_contain_text(f"mine@{seed}", timeout=PATIENCE)
    assert len(hub.generate("Hello", adapter="mine", max_new_tokens=4).token_ids) > 0
    session.tab("Compare")
    expect(page.locator("#hub-ticked input[name='mine']")).to_be_visible(timeout=PATIENCE)
    session.tab("Adapters")
    _press(session, "Roll back")
    expect(page.locator("#hub-said")).to_contain_text("stands for mine@1 now", timeout=PATIENCE)
    assert hub.info("mine").version == 1
    hub.remove("mine")


def _add_uploaded(session, name, *files):
    """Add what was dropped or chosen, once the page has these files."""
    page = session.page
    for file in files:
        expect(page.locator("#hub-files")).to_contain_text(file.partition(".")[0], timeout=PATIENCE)
    page.locator("#hub-name input, #hub-name textarea").fill(name)
    page.locator("#hub-add-run").click()


def _drop(session, *paths):
    session.drop("#hub-files", *paths)


def _choose(session, path):
    session.page.locator("#hub-add input[webkitdirectory]").set_input_files(path)


@pytest.mark.parametrize("bring", [_drop, _choose], ids=["dropped", "chosen"])
def test_a_whole_folder_is_uploaded_file_by_file(session, served, folder, bring):
    files = write_adapter(folder / "mine", seed=4, strength=0.5)
    (files / "logs").mkdir()
    for k in range(120):  # a browser gives a folder's files a hundred at a time
        (files / "logs" / f"{k}.txt").write_text("x")
    bring(session, files)
    _add_uploaded(session, "whole", WEIGHTS, "adapter_config.json", "119.txt")
    expect(session.page.locator("#hub-proof-lines .hub-passed")).to_have_count(len(STEPS) + 1, timeout=PATIENCE)
    assert served.hub.info("whole").sites == 16
    served.hub.remove("whole")


def test_files_that_are_dropped_one_after_the_other_are_one_adapter(session, served, folder):
    files = write_adapter(folder / "mine", seed=6, strength=0.5)
    for file in (WEIGHTS, "adapter_config.json"):
        _drop(session, files / file)
        expect(session.page.locator("#hub-files")).to_contain_text(file.partition(".")[0], timeout=PATIENCE)
    _add_uploaded(session, "beside", WEIGHTS, "adapter_config.json")
    expect(session.page.locator("#hub-proof-lines .hub-passed")).to_have_count(len(STEPS) + 1, timeout=PATIENCE)
    served.hub.remove("beside")


def test_errors_speak_of_what_was_dropped_and_of_no_path(session, served, folder):
    files = write_adapter(folder / "mine", seed=5, strength=0.5)
    failed = session.page.locator("#hub-proof-lines .hub-failed")
    _drop(session, files / WEIGHTS)
    _add_uploaded(session, "alone", WEIGHTS)
    expect(failed).to_contain_text("If an adapter_config.json belongs to it, drop it beside it.", timeout=PATIENCE)
    session.page.locator("#hub-files").get_by_label("Clear").click()
    (files / WEIGHTS).write_bytes(bytes(100))
    _drop(session, files / WEIGHTS, files / "adapter_config.json")
    _add_uploaded(session, "broken", WEIGHTS, "adapter_config.json")
    expect(failed).to_contain_text(f"{WEIGHTS} cannot be read as safetensors", timeout=PATIENCE)
    session.page.locator("#hub-files").get_by_label("Clear").click()
    (files / "notes.zip").write_bytes(b"PK")
    _drop(session, files / "notes.zip")
    _add_uploaded(session, "zip", "notes.zip")
    expect(failed).to_contain_text("The upload holds no adapter that any format recognises", timeout=PATIENCE)
    expect(failed).not_to_contain_text("/")
    assert not {"alone", "broken", "zip"} & {info.name for info in served.hub.adapters()}


def test_a_bad_adapter_is_refused_at_the_step_that_it_fails(session, served, folder):
    page = session.page
    bad = write_adapter(folder / "bad", seed=3, strength=0.5)
    tensors = load_file(bad / WEIGHTS)
    tensors[min(tensors)][0, 0] = torch.nan
    save_file(tensors, bad / WEIGHTS)
    page.locator("#hub-ref input, #hub-ref textarea").fill(str(bad))
    page.locator("#hub-add-run").click()
    failed = page.locator("#hub-proof-lines .hub-failed")
    expect(failed).to_contain_text("NaN or infinite", timeout=PATIENCE)
    expect(failed).to_contain_text(STEPS["values"])
    expect(page.locator("#hub-proof-lines .hub-passed")).to_have_count(list(STEPS).index("values"))
    assert "bad" not in [info.name for info in served.hub.adapters()]
    page.locator("#hub-ref input, #hub-ref textarea").fill(str(folder / "nowhere"))
    page.locator("#hub-add-run").click()
    expect(page.locator("#hub-proof-lines")).to_contain_text("does not exist", timeout=PATIENCE)


def test_a_page_without_rights_shows_and_changes_nothing(sessions, served):
    page, address = start_page(served.hub, Access())
    try:
        session = sessions(address)
        session.tab("Adapters")
        expect(session.page.locator("#hub-registry tbody tr")).to_have_count(
            len(served.hub.adapters()), timeout=PATIENCE
        )
        _pick(session, "sql")
        for gone in ("#hub-add", "#hub-files", "#hub-ref"):
            expect(session.page.locator(gone)).to_have_count(0)
        expect(session.page.get_by_role("button", name="Load", exact=True)).to_have_count(0)
        expect(session.page.locator("#hub-adapters")).to_contain_text("has no login")
        refused = httpx.post(f"{address}gradio_api/upload", files={"files": ("x.bin", b"1234")})
        assert refused.status_code == 413, "gradio takes uploads without a page that asks for any"
        names = {each.fn.__name__ for each in page.fns.values() if each.fn}
        assert "_pick" in names
        assert not names & {"_add", "_act", "_uploaded"}
    finally:
        page.close(verbose=False)
