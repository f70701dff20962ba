"""A line chart as SVG: curves over time, with axes, a legend, and colours for light and dark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 360, 60, 20, 50, 45
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#999999")
"""Told apart by the colour-blind too (Okabe and Ito)."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One quantity, sampled; it stays what it was until the next sample."""

    name: str
    points: Sequence[tuple[float, float]]


def chart(title: str, unit: str, curves: Sequence[Curve]) -> str:
    """The picture; times are in seconds."""
    last = max(x for one in curves for x, _ in one.points)
    most = max(y for one in curves for _, y in one.points) or 1
    x_step, y_step = _step(last), _step(most)
    top = -(-most // y_step) * y_step

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            round(LEFT + (WIDTH - LEFT - RIGHT) * x / last, 1),
            round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y / top, 1),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="13" role="img" aria-label="{escape(title)}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="15" font-weight="bold">{escape(title)}</text>',
    ]
    for number in range(int(top / y_step) + 1):
        value = number * y_step
        (x0, y), (x1, _) = at(0, value), at(last, value)
        parts.append(f'<path d="M{x0} {y}H{x1}" stroke="#ddd"/>')
        parts.append(f'<text x="{x0 - 8}" y="{y + 4}" text-anchor="end">{value:g}</text>')
    for number in range(int(last / x_step) + 1):
        x, y = at(number * x_step, 0)
        label = f"{number * x_step:g} s"
        parts.append(f'<text x="{x}" y="{y + 20}" text-anchor="middle">{label}</text>')
    parts.append(f'<text x="{LEFT - 45}" y="{TOP - 12}">{escape(unit)}</text>')
    for number, (one, colour) in enumerate(zip(curves, COLOURS, strict=False)):
        steps = [at(*one.points[0])]
        for x, y in one.points[1:]:
            place = at(x, y)
            steps += [(place[0], steps[-1][1]), place]
        path = "M" + "L".join(f"{x} {y}" for x, y in steps)
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        x = LEFT + 130 + number * 170
        parts.append(f'<path d="M{x} {TOP - 16}h24" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<text x="{x + 30}" y="{TOP - 12}">{escape(one.name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _step(most: float) -> float:
    """A round distance between marks, of which there are four to ten."""
    step = 1.0
    while most / step > 10:
        step *= 2.5 if str(step).startswith("2") else 2
    return step
