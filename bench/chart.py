"""Lines in a square of logarithms, as SVG."""

from math import ceil, floor, log10

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 440, 70, 610, 40, 390
COLOURS = [
    "#d62728",
    "#ff7f0e",
    "#e377c2",
    "#8c564b",
    "#1f77b4",
    "#17becf",
    "#2ca02c",
    "#9467bd",
    "#bcbd22",
]

Points = list[tuple[float, float]]


def chart(
    title: str,
    across: str,
    up: str,
    lines: dict[str, Points],
    marks: dict[float, str] | None = None,
) -> str:
    """One line for each name. `marks` says what is written below the plot, if not powers of ten."""
    lines = {name: [point for point in line if min(point) > 0] for name, line in lines.items()}
    points = [point for line in lines.values() for point in line]
    bottom, top = decades([y for _, y in points])
    columns = marks or {
        10.0**power: power_of_ten(power) for power in range(*decades([x for x, _ in points], 1))
    }
    first, last = log10(min(columns)), log10(max(columns))

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x = LEFT + (log10(point[0]) - first) / (last - first) * (RIGHT - LEFT)
        return x, BOTTOM - (log10(point[1]) - bottom) / (top - bottom) * (BOTTOM - TOP)

    parts = [
        text(LEFT, 22, title, "start", 15),
        text((LEFT + RIGHT) / 2, HEIGHT - 8, across),
    ]
    parts.append(f'<g transform="rotate(-90 16 {(TOP + BOTTOM) / 2})">{text(16, (TOP + BOTTOM) / 2, up)}</g>')
    for power in range(bottom, top + 1):
        _, y = place((10**first, 10.0**power))
        parts += [
            rule(LEFT, y, RIGHT, y),
            text(LEFT - 6, y + 4, power_of_ten(power), "end"),
        ]
    for value, label in columns.items():
        x, _ = place((value, 10.0**bottom))
        parts += [rule(x, TOP, x, BOTTOM), text(x, BOTTOM + 18, label)]
    # A name keeps its colour where another has no line.
    drawn = [(number, name) for number, (name, line) in enumerate(lines.items()) if line]
    for row, (number, name) in enumerate(drawn):
        parts.append(curve(name, [place(point) for point in lines[name]], number, row))
    body = "\n".join(parts)
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">'
    return f'{head}\n<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'


def decades(values: list[float], beyond: int = 0) -> tuple[int, int]:
    least, most = floor(log10(min(values))), ceil(log10(max(values)))
    return least, max(most, least + 1) + beyond


def power_of_ten(power: int) -> str:
    return (
        f"{10.0**power:g}"
        if -3 <= power <= 4
        else f"10{str(power).translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))}"
    )


def curve(name: str, places: Points, number: int, row: int) -> str:
    """A line and its name. After the colours have been used once, lines are dashed."""
    colour = COLOURS[number % len(COLOURS)]
    dash = ' stroke-dasharray="6 4"' if number >= len(COLOURS) else ""
    y = TOP + 10 + 21 * row
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places)
    stroke = f'fill="none" stroke="{colour}" stroke-width="2"{dash}'
    key = f'<path d="M{RIGHT + 18} {y}h26" {stroke}/>{text(RIGHT + 50, y + 4, name, "start")}'
    return f'<polyline points="{path}" {stroke}/>{dots}{key}'


def rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="#ddd"/>'


def text(x: float, y: float, words: str, anchor: str = "middle", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{words}</text>'
