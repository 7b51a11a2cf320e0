"""A drawing as SVG: a state is a CSS class and a word, never a colour alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape, quoteattr

from .drawing import COLOURS, Box, Drawing
from .layout import HEIGHT, Layout, Placed, Point

MARGIN = 16
HEAD = 44
"""Points above the boxes, for the pipeline's name."""

_STYLE = """\
svg { background: #fff; font-family: system-ui, "DejaVu Sans", sans-serif }
.name { font-size: 16px; font-weight: 600; fill: #1f2328 }
.count, .detail { font-size: 11px; font-weight: 400; fill: #59636e }
.label { font-size: 12.5px; font-weight: 600; fill: #1f2328 }
.box { fill: #fff; stroke: #d1d9e0; stroke-width: 1 }
.edge { fill: none; stroke: #818b98; stroke-width: 1.2 }
.head { fill: #818b98 }
.state { font-weight: 600 }
.blocked .label { fill: #59636e }
.blocked .box { stroke-dasharray: 4 3 }
.failed .box { stroke: #cf222e; fill: #fff5f5 }
@media (prefers-color-scheme: dark) {
svg { background: #0d1117 }
.name, .label { fill: #f0f6fc }
.box { fill: #151b23; stroke: #3d444d }
.failed .box { fill: #2b1517 }
}
"""


def svg(drawing: Drawing, layout: Layout) -> str:
    """Return a drawing as an SVG document. layout: of its structure."""
    wide = max(layout.width, 8.0 * len(drawing.name) + 160) + 2 * MARGIN
    high = layout.height + HEAD + MARGIN
    states = "".join(
        f".{state} .state, .{state} .bar {{ fill: {colour} }}\n"
        for state, colour in COLOURS.items()
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide:.0f}" height="{high:.0f}"'
        f' viewBox="0 0 {wide:.0f} {high:.0f}" role="img" aria-label={quoteattr(drawing.name)}>',
        f"<style>\n{_STYLE}{states}</style>",
        '<defs><marker id="head" markerWidth="10" markerHeight="8" refX="0" refY="4"'
        ' orient="auto" markerUnits="userSpaceOnUse"><path class="head" d="M0 0L10 4L0 8z"/>'
        "</marker></defs>",
        f'<text class="name" x="{MARGIN}" y="26">{escape(drawing.name)}'
        f'<tspan class="count" dx="12">{_counted(drawing.boxes)}</tspan></text>',
        f'<g transform="translate({MARGIN} {HEAD})">',
        *(f'<path class="edge" d="{_path(c)}" marker-end="url(#head)"/>' for c in layout.curves),
        *(_box(one, layout.boxes[one.id]) for one in drawing.boxes),
        "</g>",
        "</svg>",
        "",
    ]
    return "\n".join(parts)


def _box(one: Box, at: Placed) -> str:
    tip = "\n".join(filter(None, (one.label, f"{one.state} {one.detail}".strip(), one.where)))
    room = int((at.width - 32) / 6.2) - len(one.state)
    return (
        f'<g class="step {one.state}" id="step-{one.id}"'
        f' transform="translate({at.left:.1f} {at.top:.1f})"><title>{escape(tip)}</title>'
        f'<rect class="box" width="{at.width:.1f}" height="{HEIGHT}" rx="7"/>'
        f'<rect class="bar" x="7" y="10" width="4" height="{HEIGHT - 20}" rx="2"/>'
        f'<text class="label" x="19" y="21">{escape(_cut(one.label, int(at.width / 8) - 3))}</text>'
        f'<text class="detail" x="19" y="37"><tspan class="state">{one.state}</tspan>'
        f" <tspan>{escape(_cut(one.detail, room))}</tspan></text></g>"
    )


def _path(curve: Sequence[Point]) -> str:
    first, *rest = (f"{x:.1f} {y:.1f}" for x, y in curve)
    return f"M{first}C{' '.join(rest)}"


def _counted(boxes: Iterable[Box]) -> str:
    states = [box.state for box in boxes]
    found = ((states.count(state), state) for state in COLOURS)
    return ", ".join(f"{count} {state}" for count, state in found if count)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: max(length - 1, 0)] + "…"
