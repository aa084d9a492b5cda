"""What keeps a server running, and tells how it does: metrics, traces, log, limits and the drain, around all routes."""

from __future__ import annotations

from fastapi import FastAPI

from ..engine import Generation
from . import health
from .drain import ALWAYS, Drain, Gate
from .exchange import Exchange
from .exchanges import Exchanges
from .intake import Intake
from .logs import log_exchange
from .metrics import Metrics
from .service import Service
from .traces import Tracing


class Operations:
    """Reports on the exchanges of one server.

    Args:
        service: whose.
        tracing: where spans go; None makes none.
    """

    def __init__(self, service: Service, tracing: Tracing | None) -> None:
        self.drain = Drain()
        self.metrics = Metrics(service.hub, service.settings.metrics_adapters, lambda: self.drain.num_running)
        self.tracing = tracing
        self._with_prompts = service.settings.log_prompts

    def generated(self, generation: Generation) -> None:
        """A generation of a route is done."""
        self.metrics.generated(generation)

    def report(self, exchange: Exchange) -> None:
        """An exchange is over."""
        self.metrics.answered(exchange)
        traced = None
        if self.tracing is not None and exchange.path not in ALWAYS:
            traced = self.tracing.span(exchange)
        log_exchange(exchange, with_prompts=self._with_prompts, trace_id=traced)

    def close(self) -> None:
        """Send what others have not heard yet."""
        if self.tracing is not None:
            self.tracing.close()


def attach(app: FastAPI, service: Service, tracing: Tracing | None) -> Operations:
    """Lay the layers of operations around an app's routes, and add its own; ``app.state.operations`` has them."""
    operations = Operations(service, tracing)
    app.state.operations = operations
    app.include_router(health.router)
    # What is added last lies outermost.
    app.add_middleware(Intake, settings=service.settings)
    app.add_middleware(Gate, drain=operations.drain)
    app.add_middleware(Exchanges, counted=operations.generated, report=operations.report)
    return operations
