"""The picture of time against active tokens, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_WIDTH, _HEIGHT = 720, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 200, 46, 60
_INK, _FAINT, _GRID = "#1f2933", "#6b7785", "#e3e8ee"
_ADAPTIVE, _TOPK, _NAIVE = "#0b7a75", "#d9822b", "#b23a48"


@dataclass(frozen=True)
class Point:
    """A time as a ratio to the plain model's, with its interval, at a share of the patches."""

    share: float
    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """What the picture shows."""

    adaptive: tuple[Point, ...]
    topk: tuple[Point, ...]
    naive: float


def draw(curve: Curve) -> str:
    """The picture: time from 0 up, shares of the patches evenly spaced."""
    shares = [point.share for point in curve.adaptive]
    top = 0.1 * (1 + int(10 * max(curve.naive, *(point.high for point in curve.adaptive))))

    def x(share: float) -> float:
        return _LEFT + shares.index(share) * (_WIDTH - _LEFT - _RIGHT) / (len(shares) - 1)

    def y(ratio: float) -> float:
        return _HEIGHT - _BOTTOM - ratio / top * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="13" role="img" '
        'aria-label="Time of a recursive ViT against the share of its patches that are active">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        _text(_LEFT, 24, "Tokens not computed are time not spent", _INK, size=16, weight="600"),
    ]
    for tenth in range(0, round(10 * top) + 1, 2):
        level = y(tenth / 10)
        parts.append(_line(_LEFT, level, _WIDTH - _RIGHT, level, _GRID))
        parts.append(_text(_LEFT - 8, level + 4, f"{tenth / 10:.1f}", _FAINT, anchor="end"))
    for share in shares:
        parts.append(_text(x(share), _HEIGHT - _BOTTOM + 20, _share(share), _FAINT, anchor="middle"))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(_text(middle, _HEIGHT - 16, "patches active in steps two to four", _INK, anchor="middle"))
    parts.append(
        f'<text transform="translate(20 {(_TOP + _HEIGHT - _BOTTOM) / 2}) rotate(-90)" text-anchor="middle" '
        f'fill="{_INK}">time, plain ViT = 1</text>'
    )
    parts.append(_line(_LEFT, y(curve.naive), _WIDTH - _RIGHT, y(curve.naive), _NAIVE, width=2.5))
    for points, colour, dashes in ((curve.topk, _TOPK, "5 4"), (curve.adaptive, _ADAPTIVE, "")):
        path = " ".join(f"{x(point.share):.1f},{y(point.ratio):.1f}" for point in points)
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5"{dashed}/>')
        for point in points:
            at = x(point.share)
            parts.append(_line(at, y(point.low), at, y(point.high), colour, width=1.5))
            parts.append(f'<circle cx="{at:.1f}" cy="{y(point.ratio):.1f}" r="4" fill="{colour}"/>')
    labels = _apart(
        [
            (y(curve.adaptive[-1].ratio), "adaptive, one file", _ADAPTIVE),
            (y(curve.naive), "plain export", _NAIVE),
            (y(curve.topk[-1].ratio), "topk, a file a size", _TOPK),
        ]
    )
    parts += [_text(_WIDTH - _RIGHT + 12, level, words, colour, weight="600") for level, words, colour in labels]
    return "\n".join([*parts, "</svg>", ""])


def _apart(labels: Sequence[tuple[float, str, str]]) -> list[tuple[float, str, str]]:
    """Labels at their heights, each at least a line below the one before."""
    placed: list[tuple[float, str, str]] = []
    for level, words, colour in sorted(labels):
        lowest = placed[-1][0] + 18 if placed else 0.0
        placed.append((max(level + 4, lowest), words, colour))
    return placed


def _share(share: float) -> str:
    if share in (0.0, 1.0):
        return "none" if share == 0 else "all"
    return f"1/{round(1 / share)}"


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1.0) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def _text(
    x: float, y: float, words: str, colour: str, *, anchor: str = "start", size: int = 13, weight: str = "400"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}" font-size="{size}" '
        f'font-weight="{weight}">{words}</text>'
    )
