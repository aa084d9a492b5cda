"""aLoRA: the base up to its invocation, the adapter from there on, in every kind of forward, against PEFT."""

from __future__ import annotations

import gc
import json

import pytest
import torch
from peft import LoraConfig
from transformers import DynamicCache

from adapter_hub import Settings
from adapter_hub.engine import Row, Sampling
from adapter_hub.errors import RowMapError, UnsupportedFeature
from adapter_hub.runtime.invocations import last_occurrence
from adapter_hub.testing import assert_rows_as_alone, random_ids

from ..models import peft_logits, peft_text, save_adapter, served

INVOCATION = [7, 9, 7]
CONFIG = "adapter_config.json"
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def _prompt(*places, length=14, seed=5):
    """Random ids [1, length] with the invocation at these places, and without it elsewhere."""
    ids = random_ids(1, length, seed)
    ids[ids == 9] = 10
    for place in places:
        ids[0, place : place + 3] = torch.tensor(INVOCATION)
    return ids


def _save(base, folder, seed=1, **fields):
    fields = {"r": 4, "target_modules": ["q_proj", "k_proj", "up_proj"], "lora_alpha": 9, **fields}
    config = LoraConfig(alora_invocation_tokens=INVOCATION, task_type="CAUSAL_LM", **fields)
    return save_adapter(base, folder, config, seed)


@pytest.fixture
def adapter(bases, tmp_path):
    return _save(bases(), tmp_path / "alora")


@pytest.mark.parametrize("places", [(5,), (0,), (11,), (2, 8), (4, 6), ()])
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_logits_and_greedy_text_equal_peft(kind, places, bases, open_hub, tmp_path):
    adapter, ids = _save(bases(kind), tmp_path / "a", lora_bias=kind == "qwen2"), _prompt(*places)
    hub = open_hub(kind)
    bare = hub.model(ids).logits
    assert hub.load_adapter(adapter, "a").variant == "alora"
    logits, text = served(hub, "a", ids, 16)
    torch.testing.assert_close(logits, peft_logits(bases(kind), adapter, ids), atol=1e-4, rtol=0)
    assert torch.equal(text, peft_text(bases(kind), adapter, ids, 16))
    begin = places[-1] if places else ids.shape[1]
    torch.testing.assert_close(logits[:, :begin], bare[:, :begin], atol=1e-4, rtol=0)
    assert not places or (logits[:, begin:] - bare[:, begin:]).abs().max() > 0.05


def _saved_head(bases, tmp_path):
    """An adapter that needs the head's own rows, and the table's and a norm's."""
    config = LoraConfig(r=4, target_modules=["q_proj", "embed_tokens"], modules_to_save=["lm_head", "norm"])
    return save_adapter(bases(), tmp_path / "lora", config, seed=2)


def test_rows_of_one_batch_begin_each_where_its_own_invocation_is(adapter, bases, open_hub, tmp_path):
    hub = open_hub()
    hub.load_adapter(adapter, "a")
    hub.load_adapter(_saved_head(bases, tmp_path), "lora")
    ids = torch.cat([_prompt(3), _prompt(8, seed=6), _prompt(), _prompt(4), _prompt(5), _prompt(0)])
    names = ["a", "a", "a", None, "lora", "a"]
    with hub.rows(names):
        mixed = hub.model(ids).logits
        for kept in (1, 2, 12):
            last = hub.model(ids, logits_to_keep=kept).logits
            torch.testing.assert_close(last, mixed[:, -kept:], atol=1e-4, rtol=0)
    for row, name in enumerate(names):
        with hub.rows([name]):
            alone = hub.model(ids[row : row + 1]).logits
        torch.testing.assert_close(mixed[row : row + 1], alone, atol=1e-4, rtol=0)
    assert_rows_as_alone(hub, names)


def test_prompts_of_any_length_in_one_batch_are_answered_as_alone(adapter, bases, open_hub, tmp_path):
    hub = open_hub()
    hub.load_adapter(adapter, "a")
    hub.load_adapter(_saved_head(bases, tmp_path), "lora")
    invocation = hub.tokenizer.decode(INVOCATION)
    prompts = [f"a long text before, {invocation} and some after", f"{invocation} short", "none", f"x{invocation}", "y"]
    names = ["a", "a", "a", None, "lora"]
    alone = [hub.generate(prompt, adapter=name, max_new_tokens=12) for prompt, name in zip(prompts, names, strict=True)]
    assert hub.generate(prompts, adapters=names, max_new_tokens=12) == alone
    assert alone[1] != hub.generate(prompts[1], adapter=None, max_new_tokens=12)
    assert alone[2].text == hub.generate(prompts[2], adapter=None, max_new_tokens=12).text
    assert "".join(hub.stream(prompts[0], adapter="a", max_new_tokens=12)) == alone[0].text


def test_padding_is_no_part_of_an_invocation(bases, open_hub, tmp_path):
    hub = open_hub()
    config = LoraConfig(r=4, target_modules=["q_proj"], alora_invocation_tokens=[2, 20], task_type="CAUSAL_LM")
    hub.load_adapter(save_adapter(bases(), tmp_path / "a", config), "a")
    ids = torch.tensor([[2, 2, 20, 8, 9], [2, 20, 30, 31, 32]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    with hub.rows(["a", "a"]):
        padded = hub.model(ids, attention_mask=mask).logits
    bare = hub.model(ids, attention_mask=mask).logits
    torch.testing.assert_close(padded[0, 2:], bare[0, 2:], atol=1e-4, rtol=0)
    assert (padded[1] - bare[1]).abs().max() > 0.01


def test_as_default_adapter_it_goes_on_from_step_to_step(adapter, bases, open_hub):
    hub, ids = open_hub(), _prompt(6)
    hub.load_adapter(adapter, "a")
    hub.set_adapter("a")
    text = hub.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    assert torch.equal(text, peft_text(bases(), adapter, ids, 12))


def test_what_the_base_has_read_is_continued(adapter, bases, open_hub):
    """The use of it: keys and values of a long text, computed once by the base, serve adapters invoked after it."""
    hub, ids = open_hub(), _prompt(6, 10)
    hub.load_adapter(adapter, "a")
    expected = peft_logits(bases(), adapter, ids)
    cache = DynamicCache(config=hub.model.config)
    hub.model(ids[:, :9], past_key_values=cache)
    with hub.rows(["a"]):
        first = hub.model(ids[:, 9:13], past_key_values=cache).logits
        rest = hub.model(ids[:, 13:], past_key_values=cache).logits
    torch.testing.assert_close(torch.cat([first, rest], 1), expected[:, 9:], atol=1e-4, rtol=0)
    with pytest.raises(RowMapError, match="holds 1 rows"), hub.rows(["a", "a"]):
        hub.model(ids[:, :1].repeat(2, 1), past_key_values=cache)
    invocations = hub._residents.places.bank._invocations
    assert len(invocations._begun) == 1
    del cache
    gc.collect()
    assert not invocations._begun


def test_embeddings_alone_do_not_tell_where_it_begins(adapter, open_hub, ids):
    hub = open_hub()
    hub.load_adapter(adapter, "a")
    embedded = hub.model.get_input_embeddings()(ids)
    with pytest.raises(RowMapError, match="embeddings alone"), hub.rows(["a"]):
        hub.model(inputs_embeds=embedded)
    hub.unload("a")
    hub.model(inputs_embeds=embedded)


@pytest.mark.parametrize("fields", [{"modules_to_save": ["norm"]}, {"bias": "lora_only"}])
def test_what_would_act_before_the_invocation_is_refused(fields, bases, open_hub, tmp_path):
    adapter = _save(bases("qwen2"), tmp_path / "a", **fields)
    with pytest.raises(UnsupportedFeature, match="no pair at a linear"):
        open_hub("qwen2").register("a", adapter)


@pytest.mark.parametrize("tokens", [["7"], [-1], 7, "7", [7.5], {"7": 1}])
def test_an_invocation_that_is_no_list_of_tokens_is_refused(tokens, adapter, open_hub):
    fields = json.loads((adapter / CONFIG).read_text())
    (adapter / CONFIG).write_text(json.dumps({**fields, "alora_invocation_tokens": tokens}))
    with pytest.raises(UnsupportedFeature, match="alora_invocation_tokens"):
        open_hub().register("a", adapter)


@pytest.mark.parametrize(
    ("ids", "wanted", "place"),
    [([1, 2, 1, 2, 3], [1, 2], 2), ([1, 1, 1], [1, 1], 1), ([2], [1], None), ([], [1], None), ([1], [1, 2], None)],
)
def test_the_last_occurrence_counts(ids, wanted, place):
    assert last_occurrence(ids, wanted) == place


def test_requests_of_the_engine_equal_peft(adapter, bases, open_hub, folders):
    """Prompts in pieces, beside other adapters: the cut falls into a piece, between two, or nowhere."""
    prompts = [_prompt(*places, seed=k) for k, places in enumerate([(5,), (0,), (11,), (2, 8), ()])]
    expected = [peft_text(bases(), adapter, ids, 8)[0, ids.shape[1] :].tolist() for ids in prompts]
    for settings in ({}, {"max_batch_tokens": 4, "max_rows": 3}):
        hub = open_hub(settings=Settings(**settings))
        hub.load_adapter(adapter, "alora")
        hub.load_adapter(folders[0], "other")
        engine, (own, other) = hub._front.engine, hub._residents.resolve(["alora", "other"])
        voice, sampling = hub._residents.voice(None), Sampling(max_new_tokens=8, ignore_eos=True)
        running = []
        for ids in prompts:
            running.append(engine.submit(Row(ids[0].tolist(), voice, "alora", own), sampling))
            engine.submit(Row(ids[0].tolist(), voice, "other", other), sampling)
        found = [list(generation.result(30).token_ids) for generation in running]
        assert [ids[: len(text)] for ids, text in zip(found, expected, strict=True)] == expected
