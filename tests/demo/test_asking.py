"""How the page asks: stopped before it began, rows that fail alone, models that cannot be batched continuously."""

from __future__ import annotations

from demo.asking import Stop, StopSignals, answer, compare
from demo.conversation import Turn

SAMPLING = {"max_new_tokens": 4}


def _last(hub, stop=None, adapter=None):
    return list(answer(hub, (), Turn("one two", adapter), stop or Stop(), SAMPLING))[-1]


def test_the_tokens_are_the_engines_own_count(hub):
    turn = _last(hub, adapter="b")
    done = hub.generate([{"role": "user", "content": "one two"}], adapter="b", **SAMPLING)
    assert (turn.answer, turn.pace.tokens) == (done.text, done.completion_tokens)
    assert (turn.swap.tier, turn.pace.merged_tokens) == ("disk", 0)
    assert _last(hub, adapter="b").swap.tier == "device"
    assert _last(hub, adapter="b*0.5").swap.tier == "disk"


def test_what_is_stopped_before_it_begins_ends_with_what_it_has(hub, gate):
    class Stopping(Stop):
        def watch(self, running):
            super().watch(running)
            gate.open()

    stop = Stopping()
    stop.ask()
    with gate.shut():
        turn = list(answer(hub, (), Turn("one two", None), stop, {"max_new_tokens": 200, "ignore_eos": True}))[-1]
    assert turn.stopped
    assert turn.pace.tokens < 200


def test_a_session_stops_its_own_answer_alone():
    signals = StopSignals()
    with signals.running("a") as one, signals.running("b") as other:
        signals.stop("a")
        assert (one.is_asked, other.is_asked) == (True, False)
    signals.stop("a")
    signals.stop("nobody")


def test_a_model_that_cannot_be_batched_answers_too_without_counts(open_hub):
    hub = open_hub("bloom")
    turn = _last(hub)
    assert (turn.error, turn.finished) == ("", True)
    assert turn.answer == hub.generate([{"role": "user", "content": "one two"}], adapter=None, **SAMPLING).text
    assert turn.pace.first_token_seconds > 0
    assert (turn.pace.tokens, turn.pace.merged_tokens) == (None, None)


def test_an_adapter_that_is_gone_is_a_sentence(hub):
    turn = _last(hub, adapter="gone")
    assert turn.finished
    assert "'gone'" in turn.error


def test_each_row_of_a_comparison_is_its_own_adapters(hub):
    found = compare(hub, "one two", [None, "a", "a*0.5+b*0.5"], 6)
    assert [each.adapter for each in found.answers] == [None, "a", "a*0.5+b*0.5"]
    for each in found.answers:
        chat = [{"role": "user", "content": "one two"}]
        assert each.text == hub.generate(chat, adapter=each.adapter, max_new_tokens=6).text
        assert each.error == ""
