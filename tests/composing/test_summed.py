"""Weighted sums in a request: nothing stored, exact, in slots like any adapter."""

from __future__ import annotations

import shutil
import threading

import pytest
import torch
from peft import LoraConfig, get_peft_model

from adapter_hub.errors import AdapterInUse, BaseMismatch, NotRegistered, RequestError, UnsupportedFeature
from adapter_hub.testing import assert_rows_as_alone, logits, random_ids, tiny_tokenizer

from ..every import NAMES
from ..models import dense_logits, save_adapter
from ..plugins.test_new_tokens import NEW, resized
from ..updates.frozen import drawer

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # PEFT on saved embeddings


def _effects(hub, updates, path):
    """What an adapter's update adds at a site to some inputs; nothing where it does not change the site."""
    module, update = hub.base.module(path), updates.get(path)
    site = hub.base.site(path)
    x = random_ids(1)[0] if site.kind == "embedding" else drawer()(4, site.in_features or 64)
    with torch.no_grad():
        own = module(x)
        return torch.zeros_like(own) if update is None else update.output(module, x, module(update.base_input(x))) - own


@pytest.mark.parametrize("name", NAMES)
def test_effects_add_up_at_every_site_of_every_variant(name, full_hub):
    residents = full_hub._residents
    other = "dora" if name != "dora" else "ia3"
    alone = {one: residents.loaded(one)[0].updates for one in (name, other)}
    summed, _ = residents.loaded(f"{name}*0.6+{other}*-0.3")
    assert summed.updates.keys() == alone[name].keys() | alone[other].keys()
    for path in summed.updates:
        found, first, second = (_effects(full_hub, u, path) for u in (summed.updates, *alone.values()))
        torch.testing.assert_close(found, 0.6 * first - 0.3 * second, atol=2e-5, rtol=0)


def test_a_sum_is_the_model_under_the_summed_changes(hub, bases, ids):
    changes = {}
    for name, weight in {"a": 0.7, "b": -0.4}.items():
        for path, update in hub._residents.loaded(name)[0].updates.items():
            change = weight * update.B @ update.A
            changes[f"{path}.weight"] = changes.get(f"{path}.weight", 0) + change
    found = logits(hub, ["a*0.7+b*-0.4"], ids)
    torch.testing.assert_close(found, dense_logits(bases(), changes, ids), atol=1e-4, rtol=0)
    half = {path: change / 2 for path, change in changes.items()}
    torch.testing.assert_close(logits(hub, ["a*0.35+b*-0.2"], ids), dense_logits(bases(), half, ids), atol=1e-4, rtol=0)


def test_rows_of_sums_in_a_mixed_batch_are_as_alone(full_hub):
    sums = ["lora*0.7+dora*0.3", "vera*0.5", "ia3*0.5+adalora*0.5+lora_drop*0.2", "embedding*0.4+tokens*0.6"]
    assert_rows_as_alone(full_hub, [*sums, None, "lora", "delta_lora-signs*0.5+ia3*1"])
    full_hub.unload()


def test_equal_sums_share_a_slot_and_one_adapter_alone_is_itself(hub, ids):
    first = logits(hub, ["a*0.7+b*0.3"], ids)
    assert torch.equal(logits(hub, ["b*0.30 + a*0.7"], ids), first)
    assert _slot(hub, "a*0.7+b*0.3") == _slot(hub, "b*0.30 + a*0.7")
    assert torch.equal(logits(hub, ["a*1+b*0"], ids), logits(hub, ["a"], ids))
    assert _slot(hub, "a*1+b*0") == _slot(hub, "a") is not None
    torch.testing.assert_close(logits(hub, ["a*0+b*0"], ids), logits(hub, [None], ids))


def test_nothing_of_a_sum_is_stored_and_all_of_it_goes(hub, ids):
    bare, before = logits(hub, [None], ids), hub.memory().adapters
    registered = hub.adapters()
    info = hub.load_adapter("b*.3 + a*0.7")
    assert (info.key, info.source, info.folder) == ("a@1*0.7+b@1*0.3", "a@1*0.7+b@1*0.3", "")
    assert (info.variant, info.resident) == ("sum", True)
    hub.unload("b*.3 + a*0.7")
    hub.load_adapter("a*0.7+b*0.3")
    assert [one.name for one in hub.adapters()] == [one.name for one in registered]
    hub.set_adapter("a*0.5")
    assert set(hub.memory().adapters) == {"a@1", "a@1*0.7+b@1*0.3", "a@1*0.5"}
    hub.unload("a*0.5")
    assert hub.active_adapter is None
    hub.unload("a*0.7+b*0.3")
    assert hub.memory().adapters == before
    hub.load_adapter("a*0.7+b*0.3")
    hub.unload()
    assert hub.memory().adapters == {}
    assert torch.equal(logits(hub, [None], ids), bare)
    with pytest.raises(NotRegistered):
        hub.info("a*0.7+b*0.3")


def test_generation_takes_sums_as_names(hub):
    alone = hub.generate("select", adapter="a*0.7+b*0.3", max_new_tokens=6)
    assert alone.adapter == "a*0.7+b*0.3"
    assert "".join(hub.stream("select", adapter="a*0.7+b*0.3", max_new_tokens=6)) == alone.text
    batch = hub.generate(["select"] * 3, adapters=["a*0.7+b*0.3", None, "a"], max_new_tokens=6)
    assert batch[0] == alone
    hub.set_adapter("a*0.7+b*0.3")
    assert hub.generate("select", max_new_tokens=6).text == alone.text


def test_threads_that_ask_for_one_sum_share_it(hub, ids):
    expected = logits(hub, ["a*0.5+b*0.25"], ids)
    hub.unload("a*0.5+b*0.25")
    found, names = [None] * 6, ["a*0.5+b*0.25", "b*0.25+a*0.5", "a*0.5 + b*0.25"] * 2

    def ask(k):
        found[k] = logits(hub, [names[k]], ids)

    threads = [threading.Thread(target=ask, args=(k,)) for k in range(len(names))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(one, expected) for one in found)
    assert len({_slot(hub, name) for name in names}) == 1
    for name in names[:3]:
        hub.unload(name)
    hub.unload("a*0.125")  # of what is not resident there is nothing to do
    assert set(hub.memory().adapters) == {"a@1"}


def test_a_sum_in_use_stays_and_goes_with_an_adapter_that_is_removed(hub, folders, ids):
    with hub.rows(["a*0.5"]), pytest.raises(AdapterInUse, match=r"'a@1\*0.5' serves 1 rows"):
        hub.remove("a")
    assert hub.info("a").resident
    old = logits(hub, ["a*0.5"], ids)
    hub.remove("a")
    assert hub.memory().adapters == {}
    hub.register("a", folders[2])
    assert not torch.allclose(logits(hub, ["a*0.5"], ids), old, atol=1e-3), "the name stands for something else now"


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("a*0.5+nobody*0.5", NotRegistered, "'nobody'"),
        ("a*0.5+", RequestError, "cannot be read"),
        ("a*nan", RequestError, "weight of 'a' is nan"),
        ("base*0.5", NotRegistered, "'base'"),
    ],
)
def test_what_is_no_sum_of_adapters_is_refused(text, error, said, hub, ids):
    before = hub.memory().adapters
    for call in (
        lambda: logits(hub, [text], ids),
        lambda: hub.set_adapter(text),
        lambda: hub.generate("x", adapter=text),
    ):
        with pytest.raises(error, match=said):
            call()
    assert hub.memory().adapters == before


def test_adapters_of_two_bases_are_not_summed(open_hub, bases, tmp_path):
    config = LoraConfig(r=2, target_modules=["q_proj"])
    for kind, name in (("llama", "a"), ("llama-tied", "b")):
        hub = open_hub(kind, registry=tmp_path / "r.sqlite3")
        hub.register(name, save_adapter(bases(kind), tmp_path / name, config))
        hub.close()
    hub = open_hub(registry=tmp_path / "r.sqlite3")
    for call in (lambda: hub.load_adapter("a*0.5+b*0.5"), lambda: hub.compose("mix", {"a": 0.5, "b": 0.5})):
        with pytest.raises(BaseMismatch, match=r"'b' was proven against another base \(.*llama-tied"):
            call()
    assert hub.load_adapter("a*0.5").resident


def with_tokenizer(folder, to, *, template=None, token=None):
    shutil.copytree(folder, to)
    tokenizer = tiny_tokenizer()
    if token:
        tokenizer.add_tokens([token])
    if template:
        tokenizer.chat_template = template
    tokenizer.save_pretrained(to)
    return to


def test_parents_that_agree_lend_the_sum_their_voice(open_hub, folders, tmp_path):
    hub = open_hub()
    shout = "{% for m in messages %}{{ m.content | upper }}{% endfor %}"
    for name, folder in zip("ab", folders, strict=False):
        hub.register(name, with_tokenizer(folder, tmp_path / name, template=shout))
    hub.register("c", folders[2])
    chat = [{"role": "user", "content": "abc"}]
    counts = {name: hub.generate(chat, adapter=name, max_new_tokens=1).prompt_tokens for name in ("a", "c")}
    assert counts["a"] == 3 < counts["c"]
    assert hub.generate(chat, adapter="a*0.5+b*0.5", max_new_tokens=1).prompt_tokens == counts["a"]
    assert hub.generate(chat, adapter="a*0.5", max_new_tokens=1).prompt_tokens == counts["a"]
    assert hub.generate(chat, adapter="a*0.5+c*0.5", max_new_tokens=1).prompt_tokens == counts["c"]
    assert hub.generate(chat, adapter="a*0.5+c*0", max_new_tokens=1).prompt_tokens == counts["a"]


def test_adapters_with_other_new_tokens_are_not_summed(open_hub, bases, folders, tmp_path):
    for name, token in (("a", "<one>"), ("b", "<two>")):
        config = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)
        get_peft_model(resized(bases()), config).save_pretrained(tmp_path / "raw" / name, save_embedding_layers=True)
        with_tokenizer(tmp_path / "raw" / name, tmp_path / name, token=token)
    hub = open_hub()
    for name in "ab":
        hub.register(name, tmp_path / name)
    hub.register("plain", folders[0])
    with pytest.raises(
        UnsupportedFeature, match=f"numbers of tokens: .* {NEW}, .* 96|numbers of tokens: .* 96, .* {NEW}"
    ):
        hub.load_adapter("a*0.5+plain*0.5")
    with pytest.raises(UnsupportedFeature, match="add tokens and have different tokenizers"):
        hub.load_adapter("a*0.5+b*0.5")
    ids = random_ids(1)
    ids[0, 3] = NEW - 1
    with hub.rows(["a*0.5"]), torch.inference_mode():
        assert hub.model(ids).logits.shape[-1] == NEW


def _slot(hub, ref):
    return hub._residents.places.slots.find(*hub._residents.resolve([ref]))
