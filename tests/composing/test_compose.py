"""Compositions that are kept: adapters of their own, across variants, with the record of how they came about."""

from __future__ import annotations

import json
import math

import pytest
import torch

from adapter_hub import Settings, hookimpl
from adapter_hub.errors import (
    CorruptFile,
    NotRegistered,
    PluginError,
    RequestError,
    UnsupportedFeature,
)
from adapter_hub.hookspecs import Merged
from adapter_hub.loading import Checkpoint, get_importer, import_tuned
from adapter_hub.testing import assert_rows_as_alone, logits
from adapter_hub.updates import ParameterUpdate

from ..every import NAMES
from ..models import dense_logits
from ..plugins.test_tuned_checkpoint import PLUGINS, tune
from .test_summed import with_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # PEFT on saved embeddings
SVD = ["svd", "ties_svd", "dare_linear_svd", "dare_ties_svd", "magnitude_prune_svd"]
FACTORS = ["linear", "ties", "dare_linear", "dare_ties", "magnitude_prune"]


def _options(method):
    return {} if method in ("linear", "cat", "svd") else {"density": 0.5}


@pytest.fixture
def compose(full_hub, tmp_path):
    """Composes into a folder of the test's, and takes the result out of the hub afterwards."""
    made = []

    def one(parents, method="cat", name="mix", **options):
        info = full_hub.compose(name, parents, method, folder=tmp_path / name, **options)
        made.append(name)
        return info

    yield one
    for name in made:
        full_hub.remove(name)
    full_hub.unload()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_is_what_a_request_sums(name, full_hub, compose, ids):
    other = "dora" if name != "dora" else "ia3"
    info = compose({name: 0.6, other: -0.3})
    assert (info.variant, info.format, info.resident, info.warnings) == ("canonical", "adapter_hub", False, ())
    found = logits(full_hub, ["mix"], ids)
    torch.testing.assert_close(found, logits(full_hub, [f"{name}*0.6+{other}*-0.3"], ids), atol=1e-5, rtol=0)
    assert (found - logits(full_hub, [None], ids)).abs().max() > 0.02


def test_a_composition_is_served_like_any_other_and_composed_again(full_hub, compose, ids):
    compose({"lora": 0.5, "vera": 0.5})
    compose({"mix": 0.5, "ia3": 1.0}, name="again")
    assert_rows_as_alone(full_hub, ["mix", None, "again", "lora", "mix*0.5+again*0.5"])
    expected = logits(full_hub, ["lora*0.25+vera*0.25+ia3*1"], ids)
    torch.testing.assert_close(logits(full_hub, ["again"], ids), expected, atol=1e-4, rtol=0)


def test_projections_that_sites_share_are_kept_once(full_hub, compose):
    info = compose({"vera": 0.5})
    full_hub.load_adapter("mix")
    before = full_hub.memory().shared
    assert before > 0
    own = full_hub.memory().adapters[info.key]
    full_hub.load_adapter("vera")
    assert own <= full_hub.memory().adapters["vera@1"] + 4 * 8 * 14, "no more than a middle scale a site is its own"
    assert info.bytes < 2 * full_hub.info("vera").bytes


def test_the_record_says_how_it_came_about(full_hub, compose, tmp_path):
    compose({"lora": 0.7, "adalora": -0.2}, "dare_linear_svd", rank=3, density=0.5, seed=7)
    record = json.loads((tmp_path / "mix" / "adapter.json").read_text())["composition"]
    parents = [
        {"name": n, "weight": w, "digest": full_hub.info(n).digest} for n, w in (("lora", 0.7), ("adalora", -0.2))
    ]
    assert record["parents"] == parents
    assert (record["method"], record["seed"], record["options"]) == ("dare_linear_svd", 7, {"density": 0.5, "rank": 3})
    assert record["base_fingerprint"] == full_hub.base.fingerprint
    assert 0 < record["relative_error"] < 1
    card = (tmp_path / "mix" / "README.md").read_text()
    for words in (*(parent["digest"] for parent in parents), "dare_linear_svd", "seed 7", "density 0.5", "-0.2"):
        assert words in card
    assert f"relative error of {record['relative_error']:.3g}" in full_hub.info("mix").warnings[0]


def test_the_same_composition_has_the_same_content_and_another_seed_another(open_hub, folders, tmp_path):
    hub = open_hub(settings=Settings(cache_dir=str(tmp_path / "cache")))
    for name, folder in zip("ab", folders, strict=False):
        hub.register(name, folder)
    given = {"a": 0.5, "b": 0.5}
    first = hub.compose("mix", given, "dare_ties", density=0.5, seed=1)
    assert hub.compose("mix", given, "dare_ties", density=0.5, seed=1).digest == first.digest
    other = hub.compose("other", given, "dare_ties", density=0.5, seed=2)
    assert other.digest != first.digest
    assert sorted(path.name for path in (tmp_path / "cache" / "composed").iterdir()) == [
        f"mix-{first.digest[:12]}",
        f"other-{other.digest[:12]}",
    ]
    changed = hub.compose("mix", given, "dare_ties", density=0.5, seed=4)
    assert (changed.key, hub.info("mix@1").digest) == ("mix@2", first.digest), "another composition is another version"
    assert hub.compose("text", "a*0.5+b*0.5").sites == first.sites


def test_a_composition_outlives_its_hub(open_hub, folders, ids, tmp_path):
    hub = open_hub(registry=tmp_path / "r.sqlite3")
    for name, folder in zip("ab", folders, strict=False):
        hub.register(name, folder)
    hub.compose("mix", {"a": 0.5, "b": 0.5}, folder=tmp_path / "mix", tags=["blend"])
    expected = logits(hub, ["mix"], ids)
    hub.close()
    hub = open_hub(registry=tmp_path / "r.sqlite3")
    assert [info.name for info in hub.adapters("blend")] == ["mix"]
    assert torch.equal(logits(hub, ["mix"], ids), expected)


@pytest.mark.parametrize("method", SVD)
@pytest.mark.parametrize("name", ["dora", "ia3", "delta_lora-signs", "embedding"])
def test_whole_changes_of_any_variant_are_merged_at_a_named_rank(name, method, full_hub, compose, ids):
    info = compose({name: 1.0, "lora": 0.2}, method, rank=64, **_options(method))
    if method == "svd":  # nothing is lost at full rank
        expected = logits(full_hub, [f"{name}*1+lora*0.2"], ids)
        torch.testing.assert_close(logits(full_hub, ["mix"], ids), expected, atol=1e-3, rtol=0)
    assert max(info.ranks) == 64
    if name != "embedding":
        with pytest.raises(UnsupportedFeature, match=f"{name} and lora: site .* what {name} does there has no rank"):
            compose({name: 1.0, "lora": 0.2}, method, name="more", **_options(method))


@pytest.mark.parametrize("method", FACTORS)
@pytest.mark.parametrize("name", ["dora", "ia3"])
def test_scales_have_no_factors(name, method, compose):
    with pytest.raises(UnsupportedFeature, match=f"method {method} combines .* {name} scales"):
        compose({name: 1.0, "lora": 0.2}, method, **_options(method))


@pytest.mark.parametrize("method", FACTORS)
def test_factors_of_two_ranks_do_not_combine(method, compose):
    with pytest.raises(UnsupportedFeature, match="lora has rank 4, adalora has rank 6") as error:
        compose({"lora": 1.0, "adalora": 0.2}, method, **_options(method))
    assert "cat" in error.value.hint


@pytest.mark.parametrize("method", FACTORS)
def test_dense_parts_pairs_and_whole_parameters_each_have_their_share(method, full_hub, compose):
    compose({"delta_lora-dense": 0.5, "delta_lora-signs": 0.25, "embedding": 0.5}, method, **_options(method))
    loaded = {name: full_hub._residents.loaded(name)[0].updates for name in ("mix", "embedding", "delta_lora-dense")}
    norm = loaded["mix"]["model.norm"]
    own = full_hub.base.parameter("model.norm", "weight")
    assert isinstance(norm, ParameterUpdate)
    half = own + 0.5 * (loaded["embedding"]["model.norm"].parameters["weight"] - own)
    torch.testing.assert_close(norm.parameters["weight"], half)
    path = next(iter(loaded["delta_lora-dense"]))
    assert {"A", "B", "D"} <= loaded["mix"][path].tensors().keys()


@pytest.mark.parametrize("method", ["linear", "ties"])
def test_tuned_checkpoints_are_task_vectors(method, bases, open_hub, ids, tmp_path):
    """TIES as its paper has it: over the changes of whole weights, of two tuned checkpoints."""
    hub, tasks = open_hub(), []
    for name in "ab":
        tasks.append(tune(bases(), tmp_path / f"tuned-{name}", only="layers.1.mlp", seed=ord(name)))
        base, tuned = Checkpoint(bases()), Checkpoint(tmp_path / f"tuned-{name}")
        import_tuned(get_importer(PLUGINS, "exact"), "x", base, tuned, tmp_path / name, base_name=str(bases()))
        hub.register(name, tmp_path / name)
    expected = {}
    for path in tasks[0]:
        pair = [task[path] for task in tasks]
        if method == "ties":
            pair = [t * (t.abs() >= t.abs().quantile(0.5)) for t in pair]
            sign = torch.where(sum(pair) >= 0, 1.0, -1.0)
            agree = [(t.sign() == sign).float() for t in pair]
            expected[path] = sum(0.5 * t * a for t, a in zip(pair, agree, strict=True)) / sum(agree).clamp(min=1)
        else:
            expected[path] = 0.5 * pair[0] + 0.5 * pair[1]
    hub.compose("mix", {"a": 0.5, "b": 0.5}, method, folder=tmp_path / "mix", **_options(method))
    torch.testing.assert_close(logits(hub, ["mix"], ids), dense_logits(bases(), expected, ids), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("parents", "method", "options", "error", "said"),
    [
        ({}, "cat", {}, RequestError, "no adapters"),
        ({"lora": math.nan}, "cat", {}, RequestError, "weight of 'lora' is nan"),
        ({"lora": math.inf, "dora": 1.0}, "cat", {}, RequestError, "weight of 'lora' is inf"),
        ({"lora": "0.5"}, "cat", {}, RequestError, "weight of 'lora' is '0.5'"),
        ({"lora": True}, "cat", {}, RequestError, "weight of 'lora' is True"),
        ({"lora": 0.0, "dora": 0}, "cat", {}, RequestError, "all weights"),
        ({"nobody": 1.0}, "cat", {}, NotRegistered, "'nobody'"),
        ({"lora": 1.0}, "average", {}, RequestError, "no way 'average'"),
        ({"lora": 1.0}, "cat", {"density": 0.5}, RequestError, "cat has no option 'density'"),
        ({"lora": 1.0}, "ties", {}, RequestError, "density is None"),
        ({"lora": 1.0}, "ties", {"density": 0}, RequestError, "density is 0"),
        ({"lora": 1.0}, "ties", {"density": math.nan}, RequestError, "density is nan"),
        ({"lora": 1.0}, "dare_linear", {"density": 1.5}, RequestError, "density is 1.5"),
        ({"lora": 1.0}, "ties", {"density": 0.5, "majority_sign_method": "all"}, RequestError, "is 'all'"),
        ({"lora": 1.0}, "svd", {"rank": 0}, RequestError, "rank is 0"),
        ({"lora": 1.0}, "svd", {"rank": 2.5}, RequestError, "rank is 2.5"),
        ({"lora": 1.0}, "cat", {"seed": "x"}, RequestError, "seed is 'x'"),
        ({"tokens": 1.0}, "svd", {}, UnsupportedFeature, "has no rank"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_lost(parents, method, options, error, said, full_hub, tmp_path):
    before = full_hub.adapters()
    with pytest.raises(error, match=said):
        full_hub.compose("mix", parents, method, folder=tmp_path / "mix", **options)
    assert full_hub.adapters() == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["base", "a+b", ""])
def test_names_that_cannot_be(name, full_hub):
    with pytest.raises(RequestError, match="cannot be the name"):
        full_hub.compose(name, {"lora": 1.0})


def test_a_folder_that_is_taken_stays_as_it_is(full_hub, tmp_path):
    (tmp_path / "mix").mkdir()
    (tmp_path / "mix" / "precious").write_text("mine")
    with pytest.raises(RequestError, match="exists already and is no empty folder"):
        full_hub.compose("mix", {"lora": 1.0}, folder=tmp_path / "mix")
    assert [path.name for path in (tmp_path / "mix").iterdir()] == ["precious"]
    for place in ("/proc/nowhere/mix", tmp_path / "mix" / "precious" / "mix"):
        with pytest.raises(RequestError, match="cannot be"):
            full_hub.compose("mix", {"lora": 1.0}, folder=place)


def test_the_voice_that_parents_share_goes_with_it(open_hub, folders, tmp_path):
    hub = open_hub()
    shout = "{% for m in messages %}{{ m.content | upper }}{% endfor %}"
    for name, folder in zip("ab", folders, strict=False):
        hub.register(name, with_tokenizer(folder, tmp_path / name, template=shout))
    hub.register("c", folders[2])
    chat = [{"role": "user", "content": "abc"}]
    assert hub.compose("same", {"a": 0.5, "b": 0.5}, folder=tmp_path / "same").warnings == ()
    assert hub.generate(chat, adapter="same", max_new_tokens=1).prompt_tokens == 3
    other = hub.compose("other", {"a": 0.5, "c": 0.5}, folder=tmp_path / "other")
    assert "different tokenizers or chat templates" in other.warnings[0]
    assert hub.generate(chat, adapter="other", max_new_tokens=1).prompt_tokens > 3
    digest = hub.info("same").digest
    (tmp_path / "same" / "chat_template.jinja").write_text("{{ messages[0].content }}")
    hub.unload("same")
    with pytest.raises(CorruptFile, match=f"not {digest[:12]}"):
        hub.load_adapter("same")


class _Method:
    help = "for a test"

    def __init__(self, name, merge):
        self.name, self.merge, self.options = name, merge, {}

    def bind(self, options):
        return self.merge


class _Plugin:
    @hookimpl
    def adapter_hub_merge_methods(self):
        return [
            _Method("first", lambda site: Merged(site.parents[0].update)),
            _Method("broken", lambda site: len(site.parents) / 0),
            _Method("wrong", lambda site: site.parents[0].update),
        ]


def test_a_plugin_may_bring_a_method_and_is_named_when_it_breaks(open_hub, folders, ids, tmp_path):
    hub = open_hub(plugins=[("mine", _Plugin())])
    for name, folder in zip("ab", folders, strict=False):
        hub.register(name, folder)
    hub.compose("mix", {"a": 0.5, "b": 0.5}, "first", folder=tmp_path / "mix")
    torch.testing.assert_close(logits(hub, ["mix"], ids), logits(hub, ["a"], ids), atol=1e-5, rtol=0)
    for method, said in (
        ("broken", "'mine' fails in broken.merge: ZeroDivisionError"),
        ("wrong", "gives a LinearUpdate"),
    ):
        with pytest.raises(PluginError, match=said):
            hub.compose("bad", {"a": 0.5}, method, folder=tmp_path / "bad")
    assert not (tmp_path / "bad").exists()
