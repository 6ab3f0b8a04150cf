"""The counters and histograms of a server, for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_VIEWS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The metrics of one service, apart from those of another in the same process."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()

        def seconds(name: str, what: str) -> Histogram:
            return Histogram(f"dualformer_{name}_seconds", what, buckets=_SECONDS, registry=registry)

        about = "Requests by path and outcome: ok, or the code of the error"
        self.requests = Counter("dualformer_requests", about, ["path", "outcome"], registry=registry)
        self.latency = seconds("request", "From the head of a request to /predict to the end of its answer")
        self.upload = seconds("upload", "For the body of a request to arrive")
        self.decode = seconds("decode", "For reading a file")
        self.wait = seconds("wait", "For a process that decodes, and for the batch")
        self.network = seconds("network", "For a batch to go through the network")
        about = "Views that went through the network together"
        self.batch = Histogram("dualformer_batch_views", about, buckets=_VIEWS, registry=registry)
        about = "Decoding processes that were killed or died"
        self.replaced = Counter("dualformer_decoders_replaced", about, registry=registry)

    def watch(self, name: str, what: str, value: Callable[[], float]) -> None:
        """Adds a gauge that calls ``value`` whenever it is read."""
        Gauge(f"dualformer_{name}", what, registry=self._registry).set_function(value)

    def text(self) -> bytes:
        """Returns all metrics in Prometheus's text format."""
        return generate_latest(self._registry)
