"""What the adapter routes take and give, in JSON."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..memory import MemoryReport
from ..store import AdapterInfo

NAME = Field(min_length=1, max_length=128)
MAX_REF_LEN = 4096


class Asked(BaseModel):
    """A body; what is not known in it is refused by name."""

    model_config = ConfigDict(extra="forbid")


class Registration(Asked):
    """An adapter that is to be registered."""

    name: str = NAME
    source: str = Field(min_length=1, max_length=MAX_REF_LEN, description="A path in adapter_folders, or a Hub repo.")
    revision: str | None = Field(default=None, max_length=256)
    tags: list[str] = Field(default=[], max_length=100)
    pin: bool = False
    options: dict[str, Any] = Field(default={}, description="What its file does not say.")
    defaults: dict[str, Any] = Field(default={}, description="system_prompt and fields of Sampling.")


class Inspected(Asked):
    """Files that are to be looked into."""

    source: str = Field(min_length=1, max_length=MAX_REF_LEN)
    revision: str | None = Field(default=None, max_length=256)
    options: dict[str, Any] = {}


class Composition(Asked):
    """An adapter that is to be made of others."""

    name: str = NAME
    parents: dict[str, float] | str = Field(description="Weights by reference, or a sum as requests write it.")
    method: str = Field(default="cat", max_length=128)
    seed: int = Field(default=0, ge=0, lt=2**63)
    tags: list[str] = Field(default=[], max_length=100)
    options: dict[str, Any] = Field(default={}, description="Of the method.")


class Unloading(Asked):
    """How an adapter is taken off the device."""

    keep_on_host: bool = False


class Merging(Asked):
    """How an adapter is merged."""

    pin: bool = False


class Aliasing(Asked):
    """A word that is to stand for a version."""

    alias: str = NAME
    version: int | None = Field(default=None, ge=1, lt=10**9)


class RollingBack(Asked):
    """The version to go back to; none is the one before."""

    version: int | None = Field(default=None, ge=1, lt=10**9)


class AdapterRecord(BaseModel):
    """One registered version. ``files_exist`` tells whether its files still lie where they did."""

    object: Literal["adapter"] = "adapter"
    key: str
    name: str
    version: int
    current: bool
    aliases: list[str]
    pinned: bool
    digest: str
    source: str
    revision: str | None
    folder: str
    files_exist: bool
    format: str
    variant: str
    sites: int
    ranks: list[int]
    bytes: int
    base_name: str | None
    base_fingerprint: str
    tags: list[str]
    warnings: list[str]
    registered_at: str
    uses: int
    last_used_at: str | None
    options: dict[str, Any]
    defaults: dict[str, Any]
    resident: bool

    @classmethod
    def of(cls, info: AdapterInfo, *, files_exist: bool) -> AdapterRecord:
        """What the registry knows, written out."""
        return cls(**info.as_dict(), key=info.key, files_exist=files_exist)


class AdapterPage(BaseModel):
    """Adapters in the order of their names. ``next`` is the ``after`` of the next page, where there is one."""

    object: Literal["list"] = "list"
    data: list[AdapterRecord]
    next: str | None = None


class Removed(BaseModel):
    """What is gone."""

    object: Literal["adapter.deleted"] = "adapter.deleted"
    id: str
    deleted: bool = True


class SiteRecord(BaseModel):
    """How an adapter acts on one site."""

    rank: int
    scale: float | None


class InspectionRecord(BaseModel):
    """What is in an adapter's files; ``refused`` says why a load would fail on any base."""

    folder: str
    format: str
    variant: str | None
    digest: str
    bytes: int
    tensors: int
    dtypes: list[str]
    sites: dict[str, SiteRecord]
    replaced: list[str]
    scale_rule: str
    base_name: str | None
    base_revision: str | None
    has_tokenizer: bool
    has_chat_template: bool
    families: list[str]
    warnings: list[str]
    refused: list[str]


class MergeRecord(BaseModel):
    """What merging an adapter changes."""

    adapter: str | None
    dtype: str
    bytes: int
    seconds: float
    merged_sites: int
    kept_sites: dict[str, str]
    tokens: int
    max_difference: float | None
    relative_error: float | None
    greedy_agreement: float | None


class TierRecord(BaseModel):
    """One tier, and what happened there since the server started."""

    name: str
    limit: int | None
    used: int
    entries: int
    hits: int
    misses: int
    loads: int
    load_seconds: float
    evictions: int
    eviction_seconds: float


class MemoryRecord(BaseModel):
    """Where the bytes are; ``adapters``, ``host`` and ``merged`` by the keys of adapters."""

    base_weights: int
    base_constants: int
    shared: int
    stacked: int
    adapters: dict[str, int]
    host: dict[str, int]
    merged: dict[str, int]
    tiers: list[TierRecord]
    process: int
    device: int

    @classmethod
    def of(cls, report: MemoryReport) -> MemoryRecord:
        """The report, written out."""
        return cls(**report.as_dict())


class PluginRecord(BaseModel):
    """Who brought what."""

    name: str
    distribution: str
    sources: list[str]
    formats: list[str]
    variants: list[str]
    importers: list[str]
    merge_methods: list[str]
    exporters: list[str]
    server_routes: list[str]
