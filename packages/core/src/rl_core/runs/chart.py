"""Line charts as inline SVG that take their colours from the page: no library, no network, a millisecond."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from rl_core.runs.curves import format_count

MAX_POINTS = 600
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 12, 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a chart."""

    x: Sequence[float]
    """Ascending."""
    y: Sequence[float]
    """Points that are not finite are left out."""
    color: str
    """A CSS colour, such as `var(--accent)`."""
    label: str = ""
    """In the legend; empty for none."""
    deviation: Sequence[float] = ()
    """Half the height of a band around the line at each point; empty for none."""
    markers: bool = False
    """Mark each point, with its numbers as a tooltip."""


@dataclass(frozen=True, slots=True)
class _Scale:
    """From data to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def line_chart(
    lines: Sequence[Line],
    *,
    width: int = 760,
    height: int = 340,
    x_label: str,
    y_label: str,
    level: float | None = None,
) -> str:
    """Draw lines over a common x axis that begins at 0.

    Args:
        lines: At least one.
        width: Pixels, before the page scales it.
        height: Pixels.
        x_label: Under the axis.
        y_label: Beside the axis.
        level: Height of a dashed line across, None for none.

    Returns:
        An `<svg>` element.
    """
    drawn = [line for line in map(_thin, lines) if line.x]
    if not drawn:
        return '<p class="empty">no data yet</p>'
    bounds = [bound for line in drawn for bound in _bounds(line)] + ([] if level is None else [level])
    low, high = _padded(min(bounds), max(bounds))
    x = _Scale(0.0, max(max(line.x[-1] for line in drawn), 1.0), LEFT, width - RIGHT)
    y = _Scale(low, high, height - BOTTOM, TOP)
    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(f"{y_label} against {x_label}")}">',
        *_grid(x, y),
        *(_band(line, x, y) for line in drawn if line.deviation),
        *(_path(line, x, y) for line in drawn),
    ]
    if level is not None:
        parts.append(f'<line class="level" x1="{LEFT}" x2="{width - RIGHT}" y1="{y(level)}" y2="{y(level)}"/>')
    parts.append(
        f'<text x="{(LEFT + width - RIGHT) / 2}" y="{height - 6}" text-anchor="middle">{html.escape(x_label)}</text>'
    )
    middle = (TOP + height - BOTTOM) / 2
    parts.append(
        f'<text transform="translate(13 {middle}) rotate(-90)" text-anchor="middle">{html.escape(y_label)}</text>'
    )
    return "\n".join([*parts, "</svg>"])


def ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """Return about `count` round numbers (1, 2 or 5 times a power of ten apart) inside `[low, high]`."""
    step = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(step))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _thin(line: Line) -> Line:
    """Leave out what is not finite, and points that no screen could show apart; the last one stays."""
    deviation = line.deviation or [0.0] * len(line.x)
    points = [
        (a, b, c if math.isfinite(c) else 0.0)
        for a, b, c in zip(line.x, line.y, deviation, strict=True)
        if math.isfinite(a) and math.isfinite(b)
    ]
    stride = math.ceil(len(points) / MAX_POINTS) or 1
    points = points[::-1][::stride][::-1]
    return Line(
        x=[point[0] for point in points],
        y=[point[1] for point in points],
        color=line.color,
        label=line.label,
        deviation=[point[2] for point in points] if line.deviation else (),
        markers=line.markers and len(points) <= 150,
    )


def _bounds(line: Line) -> list[float]:
    """The lowest and highest value of a line with its band."""
    deviation = line.deviation or [0.0] * len(line.y)
    pairs = list(zip(line.y, deviation, strict=True))
    return [min(value - half for value, half in pairs), max(value + half for value, half in pairs)]


def _padded(low: float, high: float) -> tuple[float, float]:
    """Widen a range a little, and an empty one by its own size, so that it can be divided by."""
    pad = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
    return low - pad, high + pad


def _grid(x: _Scale, y: _Scale) -> list[str]:
    parts = []
    for value in ticks(y.low, y.high):
        parts.append(f'<line class="grid" x1="{x.start}" x2="{x.end}" y1="{y(value)}" y2="{y(value)}"/>')
        parts.append(f'<text x="{x.start - 7}" y="{y(value) + 4}" text-anchor="end">{_number(value)}</text>')
    for value in ticks(x.low, x.high, count=6 if x.end > 500 else 3):
        parts.append(f'<line class="grid" x1="{x(value)}" x2="{x(value)}" y1="{y.start}" y2="{y.end}"/>')
        parts.append(f'<text x="{x(value)}" y="{y.start + 16}" text-anchor="middle">{_number(value)}</text>')
    return parts


def _number(value: float) -> str:
    return format_count(float(f"{value:.4g}"))


def _band(line: Line, x: _Scale, y: _Scale) -> str:
    points = list(zip(line.x, line.y, line.deviation, strict=True))
    upper = [f"{x(a)},{y(b + half)}" for a, b, half in points]
    lower = [f"{x(a)},{y(b - half)}" for a, b, half in reversed(points)]
    return f'<polygon points="{" ".join(upper + lower)}" style="fill:{line.color};opacity:0.16"/>'


def _path(line: Line, x: _Scale, y: _Scale) -> str:
    points = " ".join(f"{x(a)},{y(b)}" for a, b in zip(line.x, line.y, strict=True))
    dots = ""
    if line.markers or len(line.x) == 1:
        dots = "".join(
            f'<circle cx="{x(a)}" cy="{y(b)}" r="3" style="fill:{line.color}"><title>{a:,.0f}: {b:.4g}</title></circle>'
            for a, b in zip(line.x, line.y, strict=True)
        )
    return f'<polyline points="{points}" style="fill:none;stroke:{line.color};stroke-width:1.8"/>{dots}'
