"""Bar charts as SVG, written by hand: no dependency, readable in a light and a dark page."""

from collections.abc import Mapping, Sequence
from html import escape

WIDTH = 760
LABELS = 300  # left column with the names of the groups
RIGHT = 90  # room for the figures at the bars' ends
BAR = 13
GAP = 10
HEAD = 58

_STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #222 }
  .title { font-size: 15px; font-weight: 600 }
  .axis { stroke: #888; stroke-width: 1 }
  .c0 { fill: #9aa5b1 } .c1 { fill: #52616f } .c2 { fill: #e0742f }
  .good { fill: #3a8f5c } .bad { fill: #c8503c }
  @media (prefers-color-scheme: dark) { text { fill: #ddd } .c1 { fill: #c4ccd4 } }
"""


def number(value: float) -> str:
    if value >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def bars(title: str, groups: Mapping[str, Mapping[str, float]], series: Sequence[str]) -> str:
    """One group of bars per name, one bar per series, all on one scale from zero."""
    largest = max((v for group in groups.values() for v in group.values()), default=1.0) or 1.0
    scale = (WIDTH - LABELS - RIGHT) / largest
    parts, y = _legend(series), HEAD
    for name, group in groups.items():
        middle = y + BAR * len(series) / 2 + 4
        parts.append(
            f'<text x="{LABELS - 10}" y="{middle:.0f}" text-anchor="end">{escape(name)}</text>'
        )
        for index, one in enumerate(series):
            if one in group:
                length = max(group[one] * scale, 1)
                parts.append(
                    f'<rect class="c{index}" x="{LABELS}" y="{y}" '
                    f'width="{length:.1f}" height="{BAR - 2}"/>'
                    f'<text x="{LABELS + length + 5:.1f}" y="{y + BAR - 3}">'
                    f"{number(group[one])}</text>"
                )
            y += BAR
        y += GAP
    return _page(title, parts, y)


def ratios(title: str, values: Mapping[str, float], met: Mapping[str, bool]) -> str:
    """One bar per name from zero on, with a line at 1, green where the goal is met."""
    largest = max([*values.values(), 1.2])
    scale = (WIDTH - LABELS - RIGHT) / largest
    parts: list[str] = []
    y = HEAD - 20
    top = y
    for name, value in values.items():
        look = "c0" if name not in met else "good" if met[name] else "bad"
        length = max(value * scale, 1)
        parts.append(
            f'<text x="{LABELS - 10}" y="{y + BAR}" text-anchor="end">{escape(name)}</text>'
            f'<rect class="{look}" x="{LABELS}" y="{y + 2}" width="{length:.1f}" height="{BAR}"/>'
            f'<text x="{LABELS + length + 5:.1f}" y="{y + BAR}">{value:.2f}</text>'
        )
        y += BAR + GAP
    one = LABELS + scale
    parts.append(f'<line class="axis" x1="{one:.1f}" x2="{one:.1f}" y1="{top}" y2="{y}"/>')
    return _page(title, parts, y)


def _legend(series: Sequence[str]) -> list[str]:
    return [
        f'<rect class="c{index}" x="{LABELS + 110 * index}" y="32" width="10" height="10"/>'
        f'<text x="{LABELS + 110 * index + 15}" y="41">{escape(name)}</text>'
        for index, name in enumerate(series)
    ]


def _page(title: str, parts: Sequence[str], height: int) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height + 10}" role="img">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n"
        f'<text class="title" x="10" y="20">{escape(title)}</text>\n{body}\n</svg>\n'
    )
