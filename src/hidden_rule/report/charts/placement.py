"""Placement of the labels of points, so that all can be read."""

from dataclasses import dataclass

DOT = 7  # px around a point that stay free


@dataclass(frozen=True)
class Label:
    """The text of a point; px."""

    lines: list[str]
    point: tuple[float, float]  # x, y
    size: tuple[float, float]  # width, height


def place_labels(labels: list[Label], area: tuple[float, float], obstacles=()) -> list[tuple[Label, tuple]]:
    """Each label with its left upper corner in px; labels overlap neither each other nor what is drawn, if possible.

    area: (width, height) of the plot; obstacles: boxes (left, top, right, bottom). A label takes the free place within
    the plot that is nearest to its point, right and left of it before above and below.
    """
    width, height = area
    taken = [(x - DOT, y - DOT, x + DOT, y + DOT) for x, y in (label.point for label in labels)]
    taken += obstacles
    placed = []
    for label in labels:
        (x, y), (w, h) = label.point, label.size
        sides = [x + DOT + 4, x - DOT - 4 - w, x - w / 2]
        tried = [
            (abs(up) * 4 + 8 * i, left, y - h / 2 + up * 4)
            for up in range(-int(height // 4), int(height // 4) + 1)
            for i, left in enumerate(sides)
        ]
        within = [p for p in tried if p[1] >= 0 and p[1] + w <= width and p[2] >= 0 and p[2] + h <= height]
        free = [p for p in within if not any(overlap((p[1], p[2], p[1] + w, p[2] + h), box) for box in taken)]
        _, left, top = min(free or within or tried)
        taken.append((left, top, left + w, top + h))
        placed.append((label, (left, top)))
    return placed


def overlap(a, b) -> bool:
    """Do two boxes (left, top, right, bottom) overlap?"""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
