"""What anybody may read who reaches the listener: metrics, and pipelines as they are."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mizzen.engine.drawing import dot, draw
from mizzen.engine.engine import Engine
from mizzen.engine.graph import Graph
from mizzen.engine.layout import Layouts
from mizzen.engine.picture import svg

from .answers import NotFound, answer
from .metrics import CONTENT_TYPE, Metrics

FORMS = ("json", "dot", "svg")


class Views:
    """Answers with what an engine's graphs and metrics are."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine = engine
        self._metrics = metrics
        self._layouts = Layouts()

    def routes(self) -> Sequence[Route]:
        """Return what is answered, by path."""
        return (
            Route("/metrics", self._tell_metrics),
            Route("/pipelines", self._tell_all),
            Route("/pipelines/{name}.{form}", self._tell_one),
        )

    async def _tell_metrics(self, _: Request) -> Response:
        return Response(self._metrics.text(), media_type=CONTENT_TYPE)

    async def _tell_all(self, _: Request) -> Response:
        return answer([draw(graph) for graph in self._engine.graphs])

    async def _tell_one(self, request: Request) -> Response:
        form = request.path_params["form"]
        drawing = draw(self._graph(request.path_params["name"]))
        if form == "json":
            return answer(drawing)
        if form == "dot":
            return Response(dot(drawing), media_type="text/vnd.graphviz")
        if form == "svg":
            picture = svg(drawing, await self._layouts.find(drawing))
            return Response(picture, media_type="image/svg+xml", headers=_FRESH)
        raise NotFound(f"cannot draw {drawing.name}", f"as {form}", f"ask for {', '.join(FORMS)}")

    def _graph(self, name: str) -> Graph:
        for graph in self._engine.graphs:
            if graph.name == name:
                return graph
        names = ", ".join(graph.name for graph in self._engine.graphs)
        raise NotFound(f"cannot show {name}", "there is no such pipeline", f"there are {names}")


_FRESH = {"Cache-Control": "no-store"}
