"""A line chart as SVG, by hand: the benches depend on nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 720, 420, 64, 48, 40, 24
_COLOURS = ("#1f6feb", "#9a9a9a", "#d1542c", "#2c8f4e")


def line_chart(title: str, x_name: str, y_name: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """One line per name, both axes from zero, with points on the first line. Without points there is no chart."""
    points = [p for line in lines.values() for p in line]
    most_x, most_y = max(x for x, _ in points), max(y for _, y in points) * 1.05

    def at(x: float, y: float) -> str:
        across = _LEFT + x / most_x * (_WIDTH - _LEFT - _RIGHT)
        down = _HEIGHT - _BOTTOM - y / most_y * (_HEIGHT - _BOTTOM - _TOP)
        return f"{across:.1f},{down:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        f'font-size="13"><rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="22" font-size="15">{escape(title)}</text>',
    ]
    for part in range(6):
        for axis in "xy":
            value = (most_x if axis == "x" else most_y) * part / 5
            start, end = (at(value, 0), at(value, most_y)) if axis == "x" else (at(0, value), at(most_x, value))
            (x1, y1), (x2, y2) = start.split(","), end.split(",")
            parts.append(f'<path d="M{x1} {y1}L{x2} {y2}" stroke="#ddd"/>')
            label = f"{value:.0f}" if axis == "x" else f"{value:.2g}"
            where = f'x="{x1}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle"'
            if axis == "y":
                where = f'x="{_LEFT - 8}" y="{float(y1) + 4}" text-anchor="end"'
            parts.append(f"<text {where}>{label}</text>")
    parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(x_name)}</text>')
    parts.append(f'<text x="12" y="{_TOP - 8}">{escape(y_name)}</text>')
    for n, (name, line) in enumerate(lines.items()):
        colour = _COLOURS[n % len(_COLOURS)]
        path = " ".join(at(x, y) for x, y in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if n == 0:
            parts += [
                f'<circle cx="{p.split(",")[0]}" cy="{p.split(",")[1]}" r="4" fill="{colour}"/>' for p in path.split()
            ]
        parts.append(f'<text x="{_LEFT + 16}" y="{_TOP + 20 + 18 * n}" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])
