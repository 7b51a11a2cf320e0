"""What Prometheus is told."""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from mizzen.engine.drawing import COLOURS, present
from mizzen.engine.engine import Engine
from mizzen.engine.performing import Task
from mizzen.engine.states import name
from mizzen.model.job import JobState
from mizzen.store import jobs

CONTENT_TYPE = CONTENT_TYPE_LATEST

BUCKETS = (0.1, 0.5, 1, 2, 5, 15, 60, 300, 900, 3600)
"""Seconds: from a lookup to a build from scratch."""

disable_created_metrics()  # type: ignore[no-untyped-call]  # each counter would be told twice


class Metrics:
    """Counts an engine's jobs as they end; the rest is looked up when it is asked for."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._registry = CollectorRegistry()
        self._jobs = Counter(
            "mizzen_jobs", "Jobs that ended.", ["operation", "state"], registry=self._registry
        )
        self._durations = Histogram(
            "mizzen_job_duration_seconds",
            "Time from a job's first attempt to its end.",
            ["operation", "state"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._rollouts = Counter(
            "mizzen_rollouts",
            "Jobs that led ports to a new release.",
            ["pipeline", "state"],
            registry=self._registry,
        )
        self._registry.register(_Present(engine))

    def ended(self, job: int, task: Task, state: JobState) -> None:
        """Count a job that has ended."""
        operation = task.operation
        self._jobs.labels(operation.id, state).inc()
        if operation.noun == "port":
            self._rollouts.labels(task.pipeline, state).inc()
        record = jobs.find(self._engine.connection, job)
        if record is not None and record.started is not None and record.ended is not None:
            taken = self._durations.labels(operation.id, state)
            taken.observe(record.ended - record.started)

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format, which is of ``CONTENT_TYPE``."""
        return generate_latest(self._registry)


class _Present(Collector):
    """What is so at the moment."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        steps = GaugeMetricFamily(
            "mizzen_steps", "Steps of pipelines.", labels=["pipeline", "state"]
        )
        for graph in self._engine.graphs:
            counted = Count(name(present(term)) for term in graph.terms.values() if term.drawn)
            for state in COLOURS:
                steps.add_metric([graph.name, state], counted[state])
        yield steps
        pools = self._engine.pools
        queue = GaugeMetricFamily(
            "mizzen_pool_queue", "Jobs that wait for a place in a pool.", labels=["pool"]
        )
        for pool, count in pools.waiting.items():
            queue.add_metric([pool], count)
        yield queue
        running = GaugeMetricFamily(
            "mizzen_pool_running", "Jobs that have a place in a pool.", labels=["pool"]
        )
        for pool, count in pools.running.items():
            running.add_metric([pool], count)
        yield running
        hits = CounterMetricFamily(
            "mizzen_cache_hits", "Results that were remembered.", labels=["operation"]
        )
        for operation, count in self._engine.hits.items():
            hits.add_metric([operation], count)
        yield hits
