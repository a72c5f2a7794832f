"""`Metrics`: counts and durations of the service, for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
ROWS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The metrics of one service; their names begin with videossp_."""

    def __init__(self) -> None:
        self.registry = kept = CollectorRegistry()
        by_route = ["route"]
        self.requests = Counter(
            "videossp_requests", "Answered requests", [*by_route, "status"], registry=kept
        )
        self.seconds = Histogram(
            "videossp_request_seconds", "Duration of requests", by_route, buckets=SECONDS, registry=kept
        )
        self.decode_seconds = Histogram(
            "videossp_decode_seconds", "Duration of decoding", buckets=SECONDS, registry=kept
        )
        self.batch_requests = Histogram(
            "videossp_batch_requests", "Requests in a pass", buckets=ROWS, registry=kept
        )
        self.batch_rows = Histogram(
            "videossp_batch_rows", "Views times adapters in a pass", buckets=ROWS, registry=kept
        )
        self.jobs = Counter("videossp_jobs", "Jobs that ended", ["status"], registry=kept)

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a metric whose value is computed when it is read."""
        Gauge(f"videossp_{name}", text, registry=self.registry).set_function(value)

    def pass_of(self, requests: int, rows: int) -> None:
        """Count a pass."""
        self.batch_requests.observe(requests)
        self.batch_rows.observe(rows)

    def text(self) -> bytes:
        """The exposition format of Prometheus."""
        return generate_latest(self.registry)
