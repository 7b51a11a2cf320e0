"""What graphs look like: as boxes and edges, as DOT, as SVG."""

from __future__ import annotations

import asyncio
import subprocess
from xml.etree import ElementTree as ET

import pytest
from stepping import Compile, Deploy, Stepper, Watch, world

from mizzen import gather, policy
from mizzen.engine.drawing import Drawing, dot, draw, shown
from mizzen.engine.layout import BOXES_MAX, Layouts
from mizzen.engine.picture import svg
from mizzen.engine.pipeline import Pipeline
from mizzen.engine.step import step
from mizzen.engine.terms import constant
from mizzen.model.errors import Failure

SVG = "{http://www.w3.org/2000/svg}"


def site() -> None:
    head = step(Watch, "main", name="main")
    images = [step(Compile, name, source=head.map(name.__add__)) for name in ("web", "api")]
    step(Deploy, "site", name="site", what=gather(images).map("+".join))


def fresh(function=site) -> Drawing:
    graph = Pipeline(function).build()
    graph.settle()
    return draw(graph)


def edges(drawing: Drawing) -> list[str]:
    labels = {box.id: box.label for box in drawing.boxes}
    return [f"{labels[source]} -> {labels[target]}" for source, target in drawing.edges]


def test_steps_are_connected_across_what_is_no_box() -> None:
    drawing = fresh()
    assert [box.label for box in drawing.boxes] == [
        "watch main", "compile web", "compile api", "deploy site",
    ]  # fmt: skip
    assert edges(drawing) == [
        "watch main -> compile web",
        "watch main -> compile api",
        "compile web -> deploy site",
        "compile api -> deploy site",
    ]


def test_before_anything_ran_all_is_blocked_and_has_a_line_in_the_file() -> None:
    drawing = fresh()
    assert {box.state for box in drawing.boxes} == {"blocked"}
    assert [box.detail for box in drawing.boxes] == ["", *["on watch main"] * 3]
    assert all(box.where.startswith(f"{__file__}:") for box in drawing.boxes)


def test_a_drawing_tells_what_runs_waits_and_failed(stepper: Stepper) -> None:
    def told() -> list[tuple[str, str, str]]:
        assert stepper.engine is not None
        boxes = draw(stepper.engine.graphs[0]).boxes
        return [(box.label, box.state, box.detail) for box in boxes]

    async def run() -> None:
        async with stepper.running(site):
            await stepper.quiet()
            world.see("main", "-a1")
            await stepper.quiet()
            world.finish("web-a1", "web")
            world.finish("api-a1", Failure("cannot compile", "no\nmemory", "buy some"))
            await stepper.quiet()
            assert told() == [
                ("watch main", "ok", "-a1"),
                ("compile web", "ok", "web"),
                ("compile api", "failed", "cannot compile: no memory; buy some"),
                ("deploy site", "blocked", "on compile api"),
            ]

    asyncio.run(run())


def test_a_value_that_stays_is_told_beside_what_failed(stepper: Stepper) -> None:
    def latched() -> None:
        with policy(latched=True):
            step(Compile, "it", source=step(Watch, "main", name="main"))

    async def run() -> None:
        async with stepper.running(latched) as engine:
            await stepper.quiet()
            world.see("main", "a1")
            await stepper.quiet()
            world.finish("a1", "made of a1")
            await stepper.quiet()
            world.see("main", "b2")
            await stepper.quiet()
            assert draw(engine.graphs[0]).boxes[1].detail == "still made of a1"
            world.finish("b2", ValueError("no"))
            await stepper.quiet()
            box = draw(engine.graphs[0]).boxes[1]
            assert (box.state, box.detail) == ("failed", "ValueError: no, still made of a1")

    asyncio.run(run())


def test_what_failed_and_is_no_box_is_told_where_it_is_missed() -> None:
    def odd() -> None:
        step(Compile, "odd", source=constant(0).map(lambda value: str(1 // value)))

    (box,) = fresh(odd).boxes
    assert box.detail.startswith(f"on a value of {__file__}:")
    assert "ZeroDivisionError" in box.detail


def test_a_shut_gate_is_told() -> None:
    def gated() -> None:
        step(Compile, "it", source=constant("a").gate(constant(value=False, label="approval")))

    assert fresh(gated).boxes[0].detail == "on approval, which is False"


@pytest.mark.parametrize(
    ("value", "words"),
    [("a\tb", "a b"), (3, "3"), (True, "True"), (None, ""), ({}, ""), ("\x1b[2J", "\ufffd[2J")],
)
def test_values_are_shown_that_have_words(value: object, words: str) -> None:
    assert shown(value) == words


def test_dot_is_text_that_graphviz_reads() -> None:
    text = dot(fresh())
    assert text.startswith('digraph "site" {\n')
    assert '  n1 [label="watch main\\nblocked" fillcolor="#8c959f"' in text
    subprocess.run(["dot", "-Tplain"], input=text.encode(), check=True, capture_output=True)


def hostile() -> None:
    first = step(Compile, '"]; <b>&amp;\\', source="a")
    step(Compile, "\x1b[31m" + "long " * 30, source=first)


@pytest.mark.parametrize("function", [site, hostile, lambda: None])
def test_a_picture_holds_every_step_and_its_state(function) -> None:
    drawing = fresh(function)
    subprocess.run(["dot", "-Tplain"], input=dot(drawing).encode(), check=True, capture_output=True)
    picture = ET.fromstring(svg(drawing, asyncio.run(Layouts().find(drawing))))
    groups = {
        group.get("id"): group
        for group in picture.iter(f"{SVG}g")
        if group.get("class", "").startswith("step")
    }
    assert set(groups) == {f"step-{box.id}" for box in drawing.boxes}
    for box in drawing.boxes:
        group = groups[f"step-{box.id}"]
        assert group.get("class") == f"step {box.state}"
        assert box.label in (group.findtext(f"{SVG}title") or "")
    assert len(list(picture.iter(f"{SVG}path"))) == len(drawing.edges) + 1  # and the arrow's head


def test_boxes_do_not_overlap_and_lie_in_the_picture() -> None:
    drawing = fresh()
    layout = asyncio.run(Layouts().find(drawing))
    places = list(layout.boxes.values())
    for one in places:
        assert -1 < one.left < layout.width - one.width + 1
        assert -1 < one.top < layout.height
        for other in places:
            apart = abs(one.top - other.top) >= 48 or abs(one.left - other.left) >= 190
            assert one is other or apart


def test_graphviz_is_asked_once_for_a_structure() -> None:
    async def run() -> None:
        layouts = Layouts()
        first = await layouts.find(fresh())
        assert await layouts.find(fresh()) is first
        assert await layouts.find(Drawing("site", (), ())) is not first

    asyncio.run(run())


def test_too_large_a_graph_is_not_drawn() -> None:
    box = fresh().boxes[0]
    with pytest.raises(Failure, match=r"ask for \.json or \.dot"):
        asyncio.run(Layouts().find(Drawing("large", (box,) * (BOXES_MAX + 1), ())))
