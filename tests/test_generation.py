"""Generating through the facade: greedy and sampled text, stop strings, streams, templates of an adapter's own."""

from __future__ import annotations

import threading

import pytest
import torch

from adapter_hub.engine.paged import PagedBatch
from adapter_hub.errors import RequestError, StepFailed
from adapter_hub.testing import tiny_tokenizer

from .models import peft_text
from .until import SECONDS


def test_greedy_text_equals_the_oracle_alone_and_in_a_batch(hub, bases, folders):
    prompts, names = ["select", "a much longer prompt", "mail"], ["a", None, "b"]
    folder_of = {"a": folders[0], "b": folders[1], None: None}
    alone = [hub.generate(p, adapter=n, max_new_tokens=12) for p, n in zip(prompts, names, strict=True)]
    batch = hub.generate(prompts, adapters=names, max_new_tokens=12)
    assert batch == alone
    for prompt, name, completion in zip(prompts, names, batch, strict=True):
        ids = torch.tensor([hub.tokenizer(prompt)["input_ids"]])
        text = peft_text(bases("llama"), folder_of[name], ids, 12)[0, ids.shape[1] :].tolist()
        stop = text.index(2) if 2 in text else len(text)
        assert list(completion.token_ids) == text[:stop]
        assert completion.finish_reason == ("stop" if stop < len(text) else "length")
        assert (completion.adapter, completion.prompt_tokens) == (name, ids.shape[1])


def test_prompts_are_texts_messages_or_batches_of_them(hub):
    chat = [{"role": "user", "content": "hi"}]
    single = hub.generate(chat, max_new_tokens=3)
    assert single.prompt_tokens == len("<user>hi<assistant>")
    assert hub.generate([chat, "<user>hi<assistant>"], max_new_tokens=3) == [single, single]
    assert hub.generate([], max_new_tokens=3) == []
    hub.set_adapter("a")
    assert hub.generate("hi", max_new_tokens=3).adapter == "a"
    assert hub.generate("hi", adapter=None, max_new_tokens=3).adapter is None


def test_prompts_may_be_token_ids_that_encode_gives(hub):
    chat = [{"role": "user", "content": "hi"}]
    ids = hub.encode(chat, adapter="a")
    assert ids == hub.tokenizer("<user>hi<assistant>")["input_ids"]
    expected = hub.generate(chat, adapter="a", max_new_tokens=6)
    assert hub.generate(ids, adapter="a", max_new_tokens=6) == expected
    assert hub.generate([ids, chat], adapter="a", max_new_tokens=6) == [expected] * 2
    for bad in ([-1], [5, 10**6]):
        with pytest.raises(RequestError, match=f"token {bad[-1]}"):
            hub.generate([bad], max_new_tokens=2)
    with pytest.raises(RequestError, match="Unicode"):
        hub.encode("\ud800")


def test_a_reference_is_resolved_to_a_key_that_goes_on_to_mean_it(hub, folders):
    key = hub.resolve("a")
    assert (key, hub.resolve(None), hub.resolve("a*0.5")) == ("a@1", None, "a@1*0.5")
    before = hub.generate("x", adapter=key, max_new_tokens=8).text
    hub.register("a", folders[2])
    assert hub.generate("x", adapter=key, max_new_tokens=8).text == before
    assert hub.resolve("a") == "a@2"
    assert hub.voice("a").stop_ids == {2}
    assert hub.max_sequence_tokens == 256


def test_whoever_does_not_iterate_takes_what_is_ready(hub):
    told, done = [], threading.Event()
    generation = hub.submit("tell", adapter="a", max_new_tokens=12, logprobs=1)
    generation.when_done(lambda _: done.set())
    generation.when_ready(lambda: told.append(1))
    assert done.wait(SECONDS)
    pieces = generation.ready()
    completion = generation.result()
    assert "".join(piece.text for piece in pieces) == completion.text
    assert tuple(token for piece in pieces for token in piece.logprobs) == completion.logprobs
    assert [token.token_id for token in pieces[0].logprobs] == list(completion.token_ids[: len(pieces[0].logprobs)])
    assert told
    assert generation.ready() == []
    assert list(generation) == []
    silent = hub.submit("tell", adapter="a", max_new_tokens=12, is_streamed=False)
    assert silent.result().text == completion.text
    assert silent.ready() == []


@pytest.mark.parametrize(
    ("prompts", "options", "said"),
    [
        ("", {}, "no tokens"),
        ([{"role": "user"}], {}, "chat messages"),
        (["a", []], {}, "chat messages"),
        (["a", "b"], {"adapters": ["a"]}, "1 adapters were given for 2 prompts"),
        (["a"], {"adapters": "a"}, "given for 1 prompts"),
        (["a"], {"adapters": ["a"], "adapter": "b"}, "both given"),
        ("a", {"max_new_tokens": 0}, "max_new_tokens"),
        ("a", {"temperature": -1}, "temperature"),
        ("a", {"top_p": 0}, "top_p"),
        ("a", {"stop": [""]}, "stop"),
        ("a", {"tempratur": 1}, "tempratur"),
        ("a" * 200, {"max_new_tokens": 100}, "256 positions"),
    ],
)
def test_bad_requests_say_what_is_wrong_and_harm_nothing(prompts, options, said, hub):
    with pytest.raises(RequestError, match=said):
        hub.generate(prompts, **options)
    assert hub.generate("fine", max_new_tokens=2).completion_tokens <= 2
    assert hub._residents.in_flight() == {"a@1": 0}


def test_stop_strings_end_each_row_alone(hub):
    free = hub.generate(["one", "two"], adapters=["a", "b"], max_new_tokens=20)
    stop = free[0].text[4:6]
    held = hub.generate(["one", "two"], adapters=["a", "b"], max_new_tokens=20, stop=stop)
    assert held[0].text == free[0].text[: free[0].text.index(stop)]
    assert held[0].finish_reason == "stop"
    expected = free[1].text.split(stop)[0]
    assert held[1].text == expected
    assert "".join(hub.stream("one", adapter="a", max_new_tokens=20, stop=stop)) == held[0].text


def test_sampling_draws_and_greedy_does_not(hub):
    greedy = {hub.generate("x", max_new_tokens=12).text for _ in range(3)}
    drawn = {hub.generate("x", max_new_tokens=12, temperature=2.0, top_p=0.99, top_k=50).text for _ in range(3)}
    assert len(greedy) == 1
    assert len(drawn) > 1


def test_a_stream_is_the_text_in_pieces_and_can_be_left(hub, gate):
    whole = hub.generate("tell", adapter="a", max_new_tokens=20).text
    pieces = list(hub.stream("tell", adapter="a", max_new_tokens=20))
    assert "".join(pieces) == whole
    started = threading.active_count()
    finished = hub.load().finished
    with gate.shut(after=10):
        stream = hub.stream("tell", adapter="a", max_new_tokens=200)
        next(stream)
        assert hub.load().finished == finished
    stream.close()
    assert hub.load().finished == finished + 1
    assert threading.active_count() <= started
    assert hub._residents.in_flight() == {"a@1": 0}


def test_a_failure_inside_a_stream_reaches_the_reader(hub, monkeypatch):
    def broken(*_):
        raise RuntimeError("wires crossed")

    hub.generate("start", max_new_tokens=1)

    monkeypatch.setattr(PagedBatch, "_forward", broken)
    with pytest.raises(StepFailed, match="wires crossed"):
        list(hub.stream("tell", adapter="a"))
    assert hub._residents.in_flight() == {"a@1": 0}


def test_an_adapters_own_template_and_tokenizer_are_used_for_its_rows_alone(hub, folders):
    (folders[1] / "chat_template.jinja").write_text("{% for m in messages %}[{{ m.content }}]{% endfor %}")
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    tokenizer.add_special_tokens({"eos_token": "a"})
    tokenizer.save_pretrained(folders[2])
    hub.register("template", folders[1])
    hub.load_adapter(folders[2], "tokenizer")
    chat = [{"role": "user", "content": "hi"}]
    done = hub.generate([chat, chat], adapters=["a", "template"], max_new_tokens=4)
    assert [c.prompt_tokens for c in done] == [len("<user>hi<assistant>"), len("[hi]")]
    assert "a" not in hub.generate("x", adapter="tokenizer", max_new_tokens=100).text
    with pytest.raises(RequestError, match="chat template"):
        hub.generate(chat, adapter="tokenizer")
