"""What Prometheus is told: counts and times of requests, with the names of a model server."""

from __future__ import annotations

import threading
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

from .. import __version__
from ..engine import Generation
from ..hub import AdapterHub
from ..store import BASE_NAME, Reference
from ..store.expression import is_expression
from .exchange import Exchange
from .gauges import PREFIX, Gauges

OTHER, SUM = "other", "sum"
_SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 10)
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class AdapterNames:
    """Adapters as values of a label, of which there may be so many: the first to come have their own.

    Versions of a name are one, all sums are one, and the base is ``base``.

    Args:
        limit: how many names.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._names: set[str] = set()
        self._lock = threading.Lock()

    def label(self, key: str | None) -> str:
        """The label of what an adapter is registered under."""
        if key is None:
            return BASE_NAME
        if is_expression(key):
            return SUM
        name = Reference.parse(key).name
        with self._lock:
            if name not in self._names and len(self._names) >= self.limit:
                return OTHER
            self._names.add(name)
        return name


class Metrics:
    """The metrics of one server, in a registry of its own. Safe from any thread.

    Args:
        hub: what runs the requests; asked for its gauges whenever somebody reads.
        max_adapters: adapters with a label of their own.
        num_running: tells how many requests have no whole answer yet.
    """

    def __init__(self, hub: AdapterHub, max_adapters: int, num_running: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self.names = AdapterNames(max_adapters)
        self._model = hub.base.name
        self.registry.register(Gauges(hub, self.names.label, __version__))
        ProcessCollector(registry=self.registry)
        self._prompt = self._counter("prompt_tokens", "Tokens of prompts.", "model_name")
        self._generated = self._counter("generation_tokens", "Tokens generated.", "model_name")
        self._success = self._counter("request_success", "Generations done.", "model_name", "finished_reason")
        self._failures = self._counter("request_failures", "Generations that failed.", "model_name", "error")
        self._queue = self._histogram("request_queue_time_seconds", "Waited for an adapter and a row.", _SECONDS)
        self._first = self._histogram("time_to_first_token_seconds", "Until the first token.", _SECONDS)
        self._each = self._histogram("time_per_output_token_seconds", "For each token after it.", _TOKEN_SECONDS)
        self._total = self._histogram("e2e_request_latency_seconds", "Until the last token.", _SECONDS)
        self._prompts = self._histogram("request_prompt_tokens", "Tokens of a prompt.", _TOKENS)
        self._answers = self._histogram("request_generation_tokens", "Tokens of an answer.", _TOKENS)
        self._by_adapter = self._counter("adapter_requests", "Generations done.", "adapter", "finished_reason")
        self._read = self._counter("adapter_prompt_tokens", "Tokens of prompts.", "adapter")
        self._written = self._counter("adapter_generation_tokens", "Tokens generated.", "adapter")
        running = Gauge(f"{PREFIX}http_requests_running", "Requests without a whole answer.", registry=self.registry)
        running.set_function(num_running)
        self._http = self._counter("http_requests", "Requests answered.", "method", "route", "status")
        self._took = Histogram(
            f"{PREFIX}http_request_duration_seconds",
            "Until the end of the answer.",
            ("method", "route"),
            registry=self.registry,
            buckets=_SECONDS,
        )

    def generated(self, generation: Generation) -> None:
        """Count a generation that is done."""
        if generation.error is not None:
            self._failures.labels(self._model, type(generation.error).__name__).inc()
            return
        done, adapter = generation.result(), self.names.label(generation.row.key)
        self._success.labels(self._model, done.finish_reason).inc()
        self._by_adapter.labels(adapter, done.finish_reason).inc()
        self._prompt.labels(self._model).inc(done.prompt_tokens)
        self._read.labels(adapter).inc(done.prompt_tokens)
        self._generated.labels(self._model).inc(done.completion_tokens)
        self._written.labels(adapter).inc(done.completion_tokens)
        self._prompts.labels(self._model).observe(done.prompt_tokens)
        self._answers.labels(self._model).observe(done.completion_tokens)
        timing = done.timing
        assert timing is not None
        self._queue.labels(self._model).observe(timing.queued)
        self._total.labels(self._model).observe(timing.total)
        if done.completion_tokens:
            self._first.labels(self._model).observe(timing.first_token)
        if done.completion_tokens > 1:
            after_first = (timing.total - timing.first_token) / (done.completion_tokens - 1)
            self._each.labels(self._model).observe(after_first)

    def answered(self, exchange: Exchange) -> None:
        """Count an exchange that is over."""
        method = exchange.method if exchange.method in _METHODS else OTHER
        route = exchange.route or OTHER
        self._http.labels(method, route, str(exchange.status or "none")).inc()
        self._took.labels(method, route).observe(exchange.seconds)

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(PREFIX + name, help, labels, registry=self.registry)

    def _histogram(self, name: str, help: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(PREFIX + name, help, ("model_name",), registry=self.registry, buckets=buckets)
