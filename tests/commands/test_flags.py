"""One table makes the flags; none of them is forgotten and none is made up."""

from argparse import ArgumentParser
from dataclasses import fields

import pytest

from adapter_hub import Sampling, Settings
from adapter_hub.commands.flags import SAMPLING, add_sampling, add_settings, sampling_from, settings_from
from adapter_hub.errors import SettingError


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for entry in fields(Settings):
        monkeypatch.delenv(f"ADAPTER_HUB_{entry.name.upper()}", raising=False)


def settings_of(*argv: str, names: tuple[str, ...] = ()) -> Settings:
    parser = ArgumentParser()
    add_settings(parser, *names)
    return settings_from(parser.parse_args(argv))


def sampling_of(*argv: str) -> dict[str, object]:
    parser = ArgumentParser()
    add_sampling(parser)
    return sampling_from(parser.parse_args(argv))


def test_every_setting_has_a_flag():
    values = {
        entry.name: (not entry.default)
        if isinstance(entry.default, bool)
        else (entry.metadata["choices"] or [7 if isinstance(entry.default, int) else entry.name])[-1]
        for entry in fields(Settings)
    }
    argv = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        argv += [f"--{flag}" if value else f"--no-{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    assert settings_of(*argv) == Settings(**values)


def test_without_flags_the_environment_counts_then_the_defaults(monkeypatch):
    assert settings_of() == Settings()
    monkeypatch.setenv("ADAPTER_HUB_OFFLINE", "1")
    monkeypatch.setenv("ADAPTER_HUB_CACHE_DIR", "/cache")
    assert settings_of() == Settings(offline=True, cache_dir="/cache")
    assert settings_of("--no-offline", "--cache-dir", "/other") == Settings(offline=False, cache_dir="/other")


def test_a_command_may_take_some_settings_only():
    assert settings_of("--registry", "r", names=("registry",)).registry == "r"
    with pytest.raises(SystemExit):
        settings_of("--offline", names=("registry",))


def test_every_field_of_sampling_has_a_flag_where_a_terminal_has_a_use_for_it():
    of_programs = {"logit_bias", "logprobs", "n", "ignore_eos"}
    assert {*(name for name, *_ in SAMPLING), "stop"} == {entry.name for entry in fields(Sampling)} - of_programs
    types = {entry.name: entry.type.partition(" | ")[0] for entry in fields(Sampling)}
    assert all(types[name] == kind.__name__ for name, kind, *_ in SAMPLING)
    assert Sampling() == Sampling(**{name: getattr(Sampling(), name) for name in types})


def test_only_given_sampling_flags_are_passed_on():
    assert sampling_of() == {}
    assert sampling_of("--stop", "a", "--stop", "b", "--temperature", "0.5", "--top-k", "3") == {
        "stop": ("a", "b"),
        "temperature": 0.5,
        "top_k": 3,
    }


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--max-new-tokens", "0"], "max_new_tokens"),
        (["--temperature", "-1"], "temperature"),
        (["--temperature", "nan"], "temperature"),
        (["--temperature", "1", "--top-p", "1.5"], "top_p"),
        (["--temperature", "1", "--top-k", "-1"], "top_k"),
        (["--repetition-penalty", "0"], "repetition_penalty"),
        (["--stop", ""], "stop"),
        (["--top-p", "0.9"], "top_p has no effect"),
        (["--top-k", "5", "--temperature", "0"], "top_k has no effect"),
    ],
)
def test_a_value_out_of_range_is_a_setting_error_that_names_it(argv, named):
    with pytest.raises(SettingError, match=named):
        sampling_of(*argv)
