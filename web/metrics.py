"""/metrics, /healthz and /readyz: what an operator's tools ask."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from starlette.responses import PlainTextResponse, Response

from collab.hub import Hub
from collab.stats import BOUNDS, Histogram
from web.auth import LocalOrOperator, Public

router = APIRouter(tags=["operations"])

COUNTERS = {
    "updates": "Updates committed to the log",
    "update_bytes": "Bytes of updates committed to the log",
    "commits": "Transactions that committed updates",
    "commit_failures": "Commits that failed and were tried again or given up",
    "frames": "WebSocket messages received",
    "held": "Updates that had to wait for others they depend on",
    "rebuilt": "In-memory documents dropped after an update could not be applied",
    "verbatim": "Documents found with a split surrogate pair",
    "rooms_loaded": "Rooms loaded from the log",
    "rooms_evicted": "Idle rooms let go",
    "rooms_failed": "Rooms ended by a failure",
    "snapshots": "Snapshots stored",
    "snapshot_failures": "Snapshots that could not be made or stored",
}
HISTOGRAMS = {
    "commit_seconds": "Time of a durable commit",
    "fanout_seconds": "Time to hand a commit to all sessions",
    "load_seconds": "Time to load a room",
}


class HubCollector(Collector):
    """Formats the hub's plain numbers when they are asked for."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def collect(self) -> Iterable[Metric]:
        hub, stats = self._hub, self._hub.stats
        rooms = list(hub.rooms.values())
        yield GaugeMetricFamily("collab_rooms", "Rooms in memory", value=len(rooms))
        yield GaugeMetricFamily("collab_sessions", "Connections", value=sum(len(r.sessions) for r in rooms))
        yield GaugeMetricFamily(
            "collab_pending_bytes", "Bytes not committed yet", value=sum(r.uncommitted_bytes for r in rooms)
        )
        yield GaugeMetricFamily(
            "collab_room_memory_bytes", "Memory of rooms, estimated", value=sum(r.weight for r in rooms)
        )
        for name, help in COUNTERS.items():
            yield CounterMetricFamily(f"collab_{name}", help, value=getattr(stats, name))
        refused = CounterMetricFamily("collab_refused", "Messages refused", labels=["code"])
        for code, count in stats.refused.items():
            refused.add_metric([code], count)
        yield refused
        limited = CounterMetricFamily("collab_limited", "Times that a limit was met", labels=["limit"])
        for limit, count in stats.limited.items():
            limited.add_metric([limit], count)
        yield limited
        for name, help in HISTOGRAMS.items():
            yield _histogram(f"collab_{name}", help, getattr(stats, name))


def _histogram(name: str, help: str, histogram: Histogram) -> Metric:
    totals = list(accumulate(histogram.counts))
    bounds = [*(str(bound) for bound in BOUNDS), "+Inf"]
    return HistogramMetricFamily(
        name, help, buckets=list(zip(bounds, totals, strict=True)), sum_value=histogram.total
    )


def registry(hub: Hub) -> CollectorRegistry:
    """A registry of its own, so that two apps in one process do not collide."""
    made = CollectorRegistry()
    made.register(HubCollector(hub))
    ProcessCollector(registry=made)
    PlatformCollector(registry=made)
    return made


@router.get("/metrics", response_class=PlainTextResponse, dependencies=[LocalOrOperator])
async def metrics(request: Request) -> Response:
    """Prometheus text format, for this machine and for operators."""
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/healthz", response_class=PlainTextResponse, dependencies=[Public])
async def healthz() -> str:
    """200 while the process serves."""
    return "ok\n"


@router.get(
    "/readyz",
    response_class=PlainTextResponse,
    responses={503: {"description": "Stopping, or the database does not answer."}},
    dependencies=[Public],
)
async def readyz(request: Request) -> Response:
    """200 when new clients may come: the database answers and the server is not stopping."""
    if request.app.state.hub.closing:
        return PlainTextResponse("stopping\n", 503)
    await request.app.state.documents.list(1)
    return PlainTextResponse("ready\n")
