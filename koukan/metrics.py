"""What Prometheus sees. Names and labels are public: dashboards and alerts are built on them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from koukan.model import Response

REGISTRY = CollectorRegistry()

_LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

TRANSACTIONS = Counter(
    "koukan_transactions_total", "Transactions that came in, by kind of client path.", ["kind"], registry=REGISTRY
)
ATTEMPTS = Counter("koukan_attempts_total", "Delivery attempts that ended, by result.", ["result"], registry=REGISTRY)
REPLIES = Counter(
    "koukan_replies_total", "Answers given to clients, by command and class.", ["command", "class"], registry=REGISTRY
)
BOUNCES = Counter("koukan_bounces_total", "Delivery status notifications made.", registry=REGISTRY)
KEPT = Counter("koukan_kept_total", "Recipients queued by store and forward.", registry=REGISTRY)
STALE = Counter("koukan_stale_attempts_total", "Attempts whose outcome was refused: another owner.", registry=REGISTRY)
INFLIGHT = Gauge("koukan_transactions_inflight", "Transactions in memory.", registry=REGISTRY)
QUEUE_DEPTH = Gauge("koukan_queue_depth", "Transactions waiting in the queue.", registry=REGISTRY)
QUEUE_AGE = Gauge(
    "koukan_queue_oldest_due_seconds", "How long the oldest due transaction is overdue.", registry=REGISTRY
)
SESSIONS = Gauge("koukan_sessions", "Router processes that are alive, as the database sees it.", registry=REGISTRY)
DURATION = Histogram(
    "koukan_transaction_seconds",
    "From the first byte of a transaction to its final answer.",
    ["kind"],
    buckets=_LATENCY_BUCKETS,
    registry=REGISTRY,
)

# Label lookups cost more than increments: the handful of children that exist are looked up once.
_REPLY = {
    (command, klass): REPLIES.labels(command, f"{klass}xx")
    for command in ("mail", "rcpt", "data")
    for klass in (2, 4, 5)
}


def count_reply(command: str, response: Response | None) -> None:
    """Count one answer to MAIL, RCPT or DATA."""
    if response is not None:
        found = _REPLY.get((command, response.code // 100))
        if found is not None:
            found.inc()


def exposition() -> bytes:
    """The text format of /metrics."""
    return generate_latest(REGISTRY)
