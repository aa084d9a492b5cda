"""What the page is made of, without a browser: its HTML, its rights, its words."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from adapter_hub import Completion
from adapter_hub.errors import RequestError, SettingError
from demo import catalog, inventory, markup
from demo.access import Access, is_loopback
from demo.adding import Proof, check_reference, proof_lines
from demo.asking import Answer, Comparison
from demo.blend_tab import blended
from demo.catalog import register_demo_adapters
from demo.conversation import Pace, Swap, Turn, last_question, messages
from demo.difference import word_differences

from .browser import write_adapter
from .conftest import start_page

HOSTILE = "<img src=x onerror=\"document.title='hacked'\"><b>${1+1} {{value}}</b>"


def test_a_port_in_use_is_a_sentence(served):
    with pytest.raises(SettingError, match="cannot be served"):
        start_page(served.hub, Access(), urlsplit(served.address).port or 0)


def test_adapters_that_do_not_fit_are_left_out_with_a_sentence(open_hub, tmp_path):
    write_adapter(tmp_path / "other", seed=1, strength=1.0)
    (notice,) = register_demo_adapters(open_hub(), tmp_path)
    assert notice.startswith("The demo adapter 'other' is left out: ")
    assert notice in markup.header(open_hub().report(), [notice]).replace("&#x27;", "'")


def test_a_folder_with_a_strange_card_is_offered_without_it(tmp_path):
    (tmp_path / "card.json").write_text('{"scores": 3}')
    assert catalog._read_card(tmp_path) is None


def test_only_answered_turns_are_said_again():
    turns = [Turn("a", None, "A"), Turn("b", "x", error="no"), Turn("c", "x", "C"), Turn("d", None, error="no")]
    assert [m["content"] for m in messages(turns, "e")] == ["a", "A", "c", "C", "e"]
    assert (last_question(turns), last_question([])) == ("c", "")


def test_word_differences_keep_every_character():
    left, (right, other) = word_differences("SELECT a, b FROM t;", ["SELECT b FROM  t", "nothing of it"])
    assert "".join(piece.text for piece in left) == "SELECT a, b FROM t;"
    assert "".join(piece.text for piece in right) == "SELECT b FROM  t"
    assert "".join(piece.text for piece in left if not piece.same).split() == ["a,", ";"]
    assert [piece.same for piece in other] == [False]


def test_a_word_of_the_base_is_marked_only_where_no_answer_kept_it():
    left, _ = word_differences("one two three", ["one", "two"])
    assert "".join(piece.text for piece in left if not piece.same).split() == ["three"]


def test_words_are_marked_and_the_white_space_before_a_line_is_not():
    html = markup.comparison(
        Comparison(
            (
                Answer(None, Completion("x", None, (1,), 1, "stop")),
                Answer("a", Completion(" p q\n   r", "a", (1,), 1, "stop")),
            ),
            1.0,
        )
    )
    assert " <mark>p q</mark>\n   <mark>r</mark>" in html


def test_all_text_is_escaped(hub):
    turn = Turn(HOSTILE, None, HOSTILE, error=HOSTILE)
    completion = Completion(HOSTILE, None, (1,), 1, "stop")
    compared = Comparison((Answer(None, completion), Answer("<u>", None, HOSTILE), Answer("<i>", completion)), 1.0)
    effects = hub.effects("a")
    pages = (
        markup.log((turn,)),
        markup.comparison(compared),
        markup.ladder(compared, [HOSTILE] * 3),
        markup.notice(HOSTILE),
        markup.busy(HOSTILE),
        markup.reference(HOSTILE),
        proof_lines(Proof(HOSTILE, {"source": HOSTILE}, error=HOSTILE)),
        inventory.heat_map(HOSTILE, effects[:1], 3),
    )
    for html in pages:
        assert not any(tag in html for tag in ("<img", "<i>", "<u>", "<b>$"))


def test_the_cost_tells_tier_path_and_what_was_stopped():
    swap = Swap(14e-6, "device")
    mixed = Turn("q", "sql", "a", swap, Pace(0.2, 18, 24.1, 6), finished=True, stopped=True)
    line = markup.log((mixed,))
    for said in ("sql: swapped in 14 µs", "tier hit: on the device", "18 tokens", "24.1 tokens/s", "stopped"):
        assert said in line
    assert "path: merged weights for 6 of 18 tokens, else factors" in line
    untold = markup.log((Turn("q", None, "a", pace=Pace(0.2), finished=True),))
    assert "path" not in untold
    assert "tokens" not in untold


def test_a_heat_map_has_a_cell_for_each_layer_and_a_word_for_what_lies_apart(hub):
    html = inventory.heat_map("a", hub.effects("a"), len(hub.base.sites))
    effects = hub.effects("a")
    assert html.count("of its norm") == len(effects) + 1
    assert f"{len(effects)} of {len(hub.base.sites)} sites" in html
    assert "model.layers.1.mlp.down_proj" in html


def test_a_proof_shows_what_passed_what_failed_and_what_was_not_reached():
    html = proof_lines(Proof("x", {"source": "folder", "format": "peft"}, error="No plugin serves it."))
    assert [html.count(f'class="hub-{kind}"') for kind in ("passed", "failed", "waits")] == [2, 1, 5]
    assert html.index("No plugin serves it.") > html.index("its type is known")


@pytest.mark.parametrize(
    ("share", "reference"),
    [(0.0, "a"), (1.0, "b"), (0.05, "a*0.95+b*0.05"), (0.5, "a*0.5+b*0.5")],
)
def test_a_blend_is_a_reference_that_any_request_may_write(share, reference):
    assert blended("a", "b", share) == reference
    assert blended("a", "a", share) == "a"
    assert blended("a", None, share) is None


@pytest.mark.parametrize("ref", ["/etc", "./x", "~/x", "a/b/c", "", "plain", "../x/y", "org/name\n"])
def test_nobody_but_this_machines_user_may_name_a_path(ref, tmp_path, monkeypatch):
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError):
        check_reference(ref if ref != "org/name\n" else "org/name", Access(controls=True))
    assert check_reference("org/other", Access(controls=True)) == "org/other"
    assert check_reference("./x", Access(controls=True, paths=True)) == "./x"


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.4", False),
        ("example.org", False),
        ("", False),
    ],
)
def test_only_this_machines_own_addresses_are_local(host, local):
    assert is_loopback(host) is local
    assert Access() == Access(controls=False, paths=False)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(14e-6, "14 µs"), (0.0412, "41 ms"), (1.94, "1.9 s"), (0.0009996, "1 ms")]
)
def test_durations_have_a_fitting_unit(seconds, shown):
    assert markup.duration(seconds) == shown
