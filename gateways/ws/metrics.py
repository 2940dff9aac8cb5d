"""What a process of the gateway counts, for Prometheus: one counter or gauge for each limit, and how late it is."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, make_wsgi_app

LATENESS_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """The counters; `application` serves them."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # when each counter was made tells nobody anything
        self._registry = CollectorRegistry()
        self.connections = Gauge("ws_connections", "Connections that are open.", registry=self._registry)
        self.topics = Gauge("ws_topics", "Topics that somebody follows.", registry=self._registry)
        self.handshakes = self._counter("handshakes", "Connections that have been accepted.")
        self.requests = self._counter("requests", "Requests of clients.")
        self.sent = self._counter("notifications", "Notifications that were sent.")
        self.sent_size = self._counter("notification_bytes", "Bytes of those of public channels, before compression.")
        self.conflated = self._counter("conflated", "Notifications left out because the client reads slowly.")
        self.event_number = Gauge("ws_event_number", "The last event that was pushed.", registry=self._registry)
        self.lateness = Histogram(
            "ws_lateness_seconds",
            "From the time of an event to its being pushed.",
            registry=self._registry,
            buckets=LATENESS_BUCKETS_S,
        )
        refused = self._counter("refused", "What a limit has refused, by the setting that is the limit.", "limit")
        closed = self._counter("closed", "Connections that a limit has closed, by the setting.", "limit")
        self.rate_refused = refused.labels("request_rate_max")
        self.subscriptions_refused = refused.labels("subscription_count_max")
        self.replays_refused = refused.labels("replay_event_max")
        self.addresses_refused = refused.labels("connection_per_address_max")
        self.origins_refused = refused.labels("origins")
        self.full = refused.labels("connection_count_max")
        self.rate_closed = closed.labels("request_rate_max")
        self.buffer_closed = closed.labels("send_buffer_max_size")
        self.slow_closed = closed.labels("slow_timeout_s")
        self.idle_closed = closed.labels("idle_timeout_s")
        self.handshake_closed = closed.labels("handshake_timeout_s")
        self.size_closed = closed.labels("message_max_size")
        self.application = make_wsgi_app(self._registry)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"ws_{name}", about, labels, registry=self._registry)
