"""The settings, as one frozen table: it makes the environment names, the command-line flags and the docs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import platformdirs

from .errors import SettingError

ENVIRONMENT_PREFIX = "ADAPTER_HUB_"


def _setting(default: Any, help: str, choices: tuple[str, ...] = (), *, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"help": help, "choices": choices})


@dataclass(frozen=True)
class Table:
    """A table of settings; each field carries what it means, and the values it may have.

    A value comes, in this order, from the code or flag that names it, from the environment
    (``ADAPTER_HUB_`` and the name in capitals), from a file where one is read, or from the default here.

    Raises:
        SettingError: a value is not among a setting's choices, or is less than nothing.
    """

    def __post_init__(self) -> None:
        for entry in fields(self):
            choices = entry.metadata["choices"]
            value = getattr(self, entry.name)
            if choices and value not in choices:
                raise SettingError(f"setting {entry.name} is {value!r}.", hint=f"Choose one of {', '.join(choices)}.")
            if isinstance(value, (int, float)) and not 0 <= value < float("inf"):
                raise SettingError(f"setting {entry.name} is {value}.", hint="Write 0 or more.")

    @classmethod
    def from_environment(
        cls,
        environment: Mapping[str, str] | None = None,
        below: Mapping[str, Any] | None = None,
        /,
        **overrides: Any,
    ) -> Self:
        """Read the settings from environment variables.

        Args:
            environment: None is that of the process.
            below: values that the environment wins over; a file's.
            **overrides: those that are not None win over everything.
        """
        environment = os.environ if environment is None else environment
        values: dict[str, Any] = dict(below or {})
        for entry in fields(cls):
            name = ENVIRONMENT_PREFIX + entry.name.upper()
            if name in environment:
                values[entry.name] = _parse(name, environment[name], type(entry.default))
        values.update({name: value for name, value in overrides.items() if value is not None})
        return cls(**values)


@dataclass(frozen=True)
class Settings(Table):
    """Everything that can be chosen about a hub, apart from its base."""

    cache_dir: str = _setting(
        platformdirs.user_cache_dir("adapter_hub"),
        "Folder of the converted default base model, and of adapters that are made here.",
    )
    registry: str = _setting(
        str(Path(platformdirs.user_data_dir("adapter_hub")) / "registry.sqlite3"),
        "File of the command line's adapter registry.",
    )
    adapter_dtype: str = _setting(
        "auto",
        "Type in which resident adapters are kept; auto is that of their files. They are computed in float32.",
        ("auto", "float32", "bfloat16", "float16"),
    )
    cpu_kernel: str = _setting(
        "auto",
        "4-bit product on CPUs with AVX512-BF16: fast rounds the block scales to bfloat16, exact does not; "
        "auto is fast for a bfloat16 base and exact for a float32 one.",
        ("auto", "fast", "exact"),
    )
    mixed_path: str = _setting(
        "auto",
        "How batches of several adapters are computed: group by group (reference), with large products over stacked "
        "copies of the adapters (torch), or with kernels for a GPU (triton); auto is triton on CUDA, else torch.",
        ("auto", "reference", "torch", "triton"),
    )
    stack_bytes: int = _setting(
        2 * 1024**3,
        "Bytes that stacked copies, and one-bit changes unpacked on a CPU, may take; what finds no room is slower.",
    )
    stack_dtype: str = _setting(
        "bfloat16",
        "Type of the factors in stacked copies, where the base computes in it too; any other base has float32. float32 "
        "takes twice the bytes and more time; a row of a mixed batch on a bfloat16 base then lies nearer to that row "
        "alone (docs/decisions/0004-mixed-batches.md).",
        ("float32", "bfloat16"),
    )
    max_resident: int = _setting(
        0, "Adapters that may be on the device at once; idle ones make way for others. 0 is any number."
    )
    device_bytes: int = _setting(
        0, "Bytes that resident adapters may take on the device; idle ones make way for others. 0 is any number."
    )
    max_rows: int = _setting(0, "Requests that run in one batch at most; 0 is 32 on a CPU and 128 on a GPU.")
    max_batch_tokens: int = _setting(
        0, "Tokens of one step at most, longer prompts are read in pieces; 0 is 512 on a CPU and 4096 on a GPU."
    )
    cache_bytes: int = _setting(
        0, "Bytes of keys and values that running requests share; 0 is 1 GiB on a CPU and most of what a GPU has free."
    )
    cuda_graphs: bool = _setting(
        False, "On a GPU, replay captured graphs for steps in which every request decodes, where its adapters allow it."
    )
    max_waiting: int = _setting(4096, "Requests that may wait to run; more are turned away, or held back by generate.")
    max_prompt_tokens: int = _setting(
        0, "Tokens of a prompt at most; longer ones are refused. 0 is as many as the model has positions for."
    )
    patience: int = _setting(
        64, "Steps that a request waits for a slot before a busy adapter gets no new requests, to make one free."
    )
    merge_policy: str = _setting(
        "off",
        "Which adapters are merged into 16-bit weights: those that somebody merges by hand (off), or also those that "
        "carry a run of batches alone (auto), and the base where bytes are free.",
        ("off", "auto"),
    )
    merge_after: int = _setting(8, "Length of that run: batches of merge_min_tokens or more, none shared with others.")
    merge_min_tokens: int = _setting(
        0, "Tokens of a batch from which auto uses merged weights; 0 is 32 on a CPU and 8 on CUDA."
    )
    merged_bytes: int = _setting(4 * 1024**3, "Bytes that merged weights may take on the device.")
    merged_host_bytes: int = _setting(
        4 * 1024**3, "Bytes of host memory for merged weights that had to leave the device; on a CPU there are none."
    )
    host_bytes: int = _setting(
        4 * 1024**3, "Bytes of host memory for loaded adapters, so that they come back without reading their files."
    )
    allow_pickle: bool = _setting(False, "Read adapters stored as pickles too, with torch's weights-only reader.")
    allow_base_mismatch: bool = _setting(
        False, "Serve adapters whose recorded base model has another name or revision than this base."
    )
    trust_remote_code: bool = _setting(
        False, "Run the code that a base model brings along, for families that transformers has no class for."
    )
    offline: bool = _setting(False, "Never ask the network for an adapter; take what its cache holds.")


@dataclass(frozen=True)
class ServerSettings(Table):
    """Everything that can be chosen about a server, apart from its hub."""

    host: str = _setting("127.0.0.1", "Address to listen on; any but loopback asks for an API key first.")
    port: int = _setting(8000, "Port to listen on; 0 takes a free one.")
    max_body_bytes: int = _setting(4 * 1024**2, "Bytes of a request's body at most; more is refused unread (413).")
    max_header_bytes: int = _setting(32 * 1024, "Bytes of a request's headers at most, names and values (431).")
    read_timeout: float = _setting(
        20.0, "Seconds in which the headers of a request must have come, and again its body (408). 0 is no limit."
    )
    keep_alive: float = _setting(30.0, "Seconds that a connection stays open between two requests.")
    request_timeout: float = _setting(0.0, "Seconds after which a generation ends with what it has. 0 is no limit.")
    drain_seconds: float = _setting(
        30.0, "Seconds that running requests are given to end after SIGTERM; then they are cancelled."
    )
    log_format: str = _setting(
        "text", "How the log is written, to the standard error: json is an object a line.", ("text", "json")
    )
    log_prompts: bool = _setting(False, "Write prompts and answers into the log's lines too.")
    metrics_open: bool = _setting(
        False,
        "Answer /metrics without an API key; else, once there are keys, it asks for one with the scope admin for all "
        "adapters.",
    )
    metrics_adapters: int = _setting(
        100, "Adapters that have a name of their own in the metrics, the first to come; the others are 'other'."
    )
    otlp_endpoint: str = _setting(
        "", "Where traces go, over OTLP and HTTP (http://collector:4318); OTEL_EXPORTER_OTLP_ENDPOINT does the same."
    )
    api_key: str = _setting(
        "", "A key that may do everything, beside those that adapter-hub keys makes; empty is none.", secret=True
    )
    adapter_folders: str = _setting(
        "",
        f"Folders, separated by commas or {os.pathsep!r}, of which each subfolder that holds an adapter is registered "
        "under its name, and in which whatever is registered over HTTP has to lie.",
    )
    watch_folders: bool = _setting(True, "Register what is new or changed in adapter_folders while the server runs.")
    allowed_repos: str = _setting(
        "",
        "Hub repos that may be registered over HTTP, as patterns separated by commas (my-org/*); empty is none.",
    )


_IN_WORDS = {int: "whole number", float: "number"}


def _parse(name: str, raw: str, kind: type) -> Any:
    if kind is not bool:
        try:
            return kind(raw)
        except ValueError:
            raise SettingError(f"environment variable {name} is {raw!r}.", hint=f"Write a {_IN_WORDS[kind]}.") from None
    lowered = raw.strip().lower()
    if lowered in ("1", "true", "yes", "on"):
        return True
    if lowered in ("0", "false", "no", "off", ""):
        return False
    raise SettingError(f"environment variable {name} is {raw!r}.", hint="Write 1 or 0.")


def settings_table(table: type[Table] = Settings) -> list[tuple[str, str, str, str]]:
    """Rows of (setting, environment name, default, meaning), as ``docs/settings.md`` shows them."""
    home = str(Path.home())
    return [
        (
            entry.name,
            ENVIRONMENT_PREFIX + entry.name.upper(),
            str(entry.default).replace(home, "~"),
            entry.metadata["help"]
            + (f" One of {', '.join(entry.metadata['choices'])}." if entry.metadata["choices"] else ""),
        )
        for entry in fields(table)
    ]
