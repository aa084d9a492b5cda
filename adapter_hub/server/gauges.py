"""What Prometheus is told of the moment: what runs and waits, and what lies in which tier."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..engine import Load
from ..hub import AdapterHub

PREFIX = "adapter_hub_"


class Gauges(Collector):
    """Reads a hub whenever it is asked.

    Args:
        hub: whose load and memory.
        label: from what an adapter is registered under to its label.
        version: of the program.
    """

    def __init__(self, hub: AdapterHub, label: Callable[[str], str], version: str) -> None:
        self.hub = hub
        self.label = label
        self.version = version

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: to be registered is no reason to read the hub."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Everything as it is now."""
        about = GaugeMetricFamily(f"{PREFIX}info", "The program and its base.", labels=["version", "model_name"])
        about.add_metric([self.version, self.hub.base.name], 1)
        yield about
        yield from self._load()
        yield from self._memory()

    def _load(self) -> Iterator[Metric]:
        load, model = self.hub.load(), [self.hub.base.name]
        gauges = (
            ("num_requests_running", "Generations that have a row in the batch.", load.active),
            ("num_requests_waiting", "Generations that wait for an adapter or a row.", load.waiting),
            ("kv_cache_usage_perc", "Share of the cache of keys and values in use; 1 is all.", _share(load)),
        )
        for name, help, value in gauges:
            gauge = GaugeMetricFamily(PREFIX + name, help, labels=["model_name"])
            gauge.add_metric(model, value)
            yield gauge
        counts = (
            ("engine_steps", "Forwards of the engine since its start.", load.steps),
            ("adapter_hits", "Generations whose adapter was resident when they came.", load.hits),
            ("adapter_loads", "Adapters brought to the device for generations that waited.", load.loads),
        )
        for name, help, value in counts:
            count = CounterMetricFamily(PREFIX + name, help, labels=["model_name"])
            count.add_metric(model, value)
            yield count

    def _memory(self) -> Iterator[Metric]:
        memory = self.hub.memory()
        resident = Counter[str]()
        for key, size in memory.adapters.items():
            resident[self.label(key)] += size
        by_adapter = GaugeMetricFamily(
            f"{PREFIX}adapter_resident_bytes", "Device bytes of a resident adapter.", labels=["adapter"]
        )
        for name, size in resident.items():
            by_adapter.add_metric([name], size)
        yield by_adapter
        yield GaugeMetricFamily(f"{PREFIX}adapters_resident", "Adapters on the device.", len(memory.adapters))
        yield GaugeMetricFamily(
            f"{PREFIX}base_bytes", "Bytes of the base.", memory.base_weights + memory.base_constants
        )
        tiers = (
            (GaugeMetricFamily, "tier_used_bytes", "Bytes that a tier holds.", "used"),
            (GaugeMetricFamily, "tier_limit_bytes", "Bytes that it may hold, where something limits it.", "limit"),
            (GaugeMetricFamily, "tier_entries", "Adapters in it.", "entries"),
            (CounterMetricFamily, "tier_hits", "Uses that found what they wanted there.", "hits"),
            (CounterMetricFamily, "tier_misses", "Uses that did not.", "misses"),
            (CounterMetricFamily, "tier_loads", "Adapters that came there.", "loads"),
            (CounterMetricFamily, "tier_load_seconds", "How long that took together.", "load_seconds"),
            (CounterMetricFamily, "tier_evictions", "Adapters that had to go.", "evictions"),
            (CounterMetricFamily, "tier_eviction_seconds", "How long that took together.", "eviction_seconds"),
        )
        for kind, name, help, attribute in tiers:
            family = kind(PREFIX + name, help, labels=["tier"])
            for tier in memory.tiers:
                value = getattr(tier, attribute)
                if value is not None:
                    family.add_metric([tier.name], value)
            yield family


def _share(load: Load) -> float:
    return load.pages / load.max_pages if load.max_pages else 0.0
