"""The settings table: environment, overrides, and the page that documents it."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapter_hub import Settings
from adapter_hub.config import ServerSettings, settings_table
from adapter_hub.errors import SettingError

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"


def test_values_come_from_arguments_then_environment_then_defaults():
    environment = {"ADAPTER_HUB_CPU_KERNEL": "exact", "ADAPTER_HUB_OFFLINE": "yes", "ADAPTER_HUB_CACHE_DIR": "/x"}
    settings = Settings.from_environment(environment, cache_dir="/y", adapter_dtype=None)
    assert (settings.cpu_kernel, settings.offline, settings.cache_dir) == ("exact", True, "/y")
    assert settings.adapter_dtype == Settings().adapter_dtype


def test_a_file_lies_between_the_environment_and_the_defaults():
    below = {"port": 1, "drain_seconds": 2.5, "log_format": "json"}
    environment = {"ADAPTER_HUB_PORT": "2", "ADAPTER_HUB_DRAIN_SECONDS": "3"}
    settings = ServerSettings.from_environment(environment, below, drain_seconds=4.0)
    assert (settings.port, settings.drain_seconds, settings.log_format) == (2, 4.0, "json")
    assert settings.host == ServerSettings().host


@pytest.mark.parametrize("value", ["-1", "inf", "nan"])
def test_a_number_of_seconds_is_one(value):
    with pytest.raises(SettingError, match="drain_seconds"):
        ServerSettings.from_environment({"ADAPTER_HUB_DRAIN_SECONDS": value})


@pytest.mark.parametrize(("name", "value"), [("CPU_KERNEL", "slow"), ("OFFLINE", "perhaps"), ("ADAPTER_DTYPE", "int8")])
def test_a_value_that_cannot_be_names_the_setting(name, value):
    with pytest.raises(SettingError, match=f"(?i){name}.*{value}"):
        Settings.from_environment({f"ADAPTER_HUB_{name}": value})


@pytest.mark.parametrize(("name", "value", "said"), [("PORT", "x", "a whole number"), ("KEEP_ALIVE", "x", "a number")])
def test_a_value_of_another_kind_is_told_what_to_be(name, value, said):
    with pytest.raises(SettingError, match=f"{name} is 'x'. Write {said}."):
        ServerSettings.from_environment({f"ADAPTER_HUB_{name}": value})


def test_the_page_shows_the_table():
    lines = PAGE.read_text().splitlines()
    rows = [*settings_table(), *settings_table(ServerSettings)]
    for row in rows:
        assert "| " + " | ".join(f"`{cell}`" if k < 3 else cell for k, cell in enumerate(row)) + " |" in lines
    assert sum(line.startswith("| `") for line in lines) == len(rows)
