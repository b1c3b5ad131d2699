"""What Prometheus sees of the operator. Names and labels are public: dashboards and alerts are built on them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

RECONCILES = Counter(
    "koukan_operator_reconciles_total",
    "Reconciliations that ended, by kind and result (ok, waiting, paused, failed, gone).",
    ["kind", "result"],
    registry=REGISTRY,
)
DURATION = Histogram(
    "koukan_operator_reconcile_seconds",
    "How long a reconciliation took.",
    ["kind"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=REGISTRY,
)
QUEUE_LENGTH = Gauge("koukan_operator_queue_length", "Resources that wait for reconciliation.", registry=REGISTRY)
RESOURCES = Gauge(
    "koukan_operator_resources",
    "Resources by kind and by the status of their first condition (Ready; Accepted for chains).",
    ["kind", "status"],
    registry=REGISTRY,
)
API_CALLS = Counter(
    "koukan_operator_api_calls_total",
    "Requests to the API server besides watches, by HTTP method and resource.",
    ["method", "resource"],
    registry=REGISTRY,
)
LEADER = Gauge("koukan_operator_leader", "1 while this process is the one that acts.", registry=REGISTRY)


def exposition() -> bytes:
    """The text format of /metrics."""
    return generate_latest(REGISTRY)
