"""A confusion matrix as a picture: a row for each true class, a column for each predicted one, shaded by its share."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from edgevit.metrics import Evaluation

__all__ = ["confusion_picture"]

_INK, _FAINT, _PAPER, _RULE = (32, 36, 44), (120, 126, 136), (255, 255, 255), (222, 226, 232)
_RIGHT, _WRONG = (24, 96, 168), (196, 64, 40)
_MARGIN = 24
_CELL_RANGE = (10, 72)  # pixels
_CELL_WITH_TEXT = 34


def confusion_picture(evaluation: Evaluation) -> Image.Image:
    """Draw the confusion matrix of an evaluation, with the recall of each class at the right.

    Returns:
        RGB, about 1000 pixels wide at most for up to 60 classes; cells too small for numbers have none.
    """
    text, small = ImageFont.load_default(15), ImageFont.load_default(12)
    classes = len(evaluation.labels)
    cell = max(_CELL_RANGE[0], min(_CELL_RANGE[1], 700 // classes))
    label_width = int(max(text.getlength(label) for label in evaluation.labels)) + 12
    left, top = _MARGIN + 36 + label_width, _MARGIN + 76 + label_width
    grid = cell * classes
    picture = Image.new("RGB", (max(left + grid + 170, 460), top + grid + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(picture)

    low, high = evaluation.accuracy_interval
    draw.text((_MARGIN, _MARGIN), f"accuracy {evaluation.accuracy:.1%}", _INK, ImageFont.load_default(20))
    facts = f"{evaluation.confidence:.0%} interval {low:.1%} to {high:.1%}, {evaluation.images} images"
    draw.text((_MARGIN, _MARGIN + 28), facts, _FAINT, small)
    draw.text((left + grid / 2, _MARGIN + 60), "predicted", _FAINT, small, anchor="mm")
    _paste_upright(picture, "true", small, _FAINT, (_MARGIN + 6, top + grid // 2 - 14))

    show_labels = cell >= 16
    for row, label in enumerate(evaluation.labels):
        y = top + row * cell
        if show_labels:
            draw.text((left - 10, y + cell / 2), label, _INK, text, anchor="rm")
            at = (left + row * cell + cell // 2 - 9, top - 10 - int(text.getlength(label)))
            _paste_upright(picture, label, text, _INK, at)
        for column, count in enumerate(evaluation.confusion[row]):
            x = left + column * cell
            share = count / max(evaluation.support[row], 1)
            fill = _blend(_PAPER, _RIGHT if row == column else _WRONG, 0.08 + 0.92 * share if count else 0.0)
            draw.rectangle((x, y, x + cell, y + cell), fill, _RULE)
            if cell >= _CELL_WITH_TEXT and count:
                draw.text((x + cell / 2, y + cell / 2), str(count), _PAPER if share > 0.45 else _INK, text, anchor="mm")
        recall = evaluation.recall[row]
        if show_labels and recall is not None:
            low, high = evaluation.recall_intervals[row]
            draw.text((left + grid + 12, y + cell / 2), f"{recall:.0%}", _INK, text, anchor="lm")
            draw.text((left + grid + 60, y + cell / 2), f"{low:.0%} to {high:.0%}", _FAINT, small, anchor="lm")
    if show_labels:
        draw.text((left + grid + 12, top - 16), "recall", _FAINT, small, anchor="lm")
    return picture


def _paste_upright(
    picture: Image.Image, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    ink: tuple[int, int, int], at: tuple[int, int],
) -> None:  # fmt: skip
    """Text that reads from bottom to top; `at` is the upper left corner of it."""
    line = Image.new("L", (int(font.getlength(text)) + 2, 20))
    ImageDraw.Draw(line).text((0, 10), text, 255, font, anchor="lm")
    line = line.transpose(Image.Transpose.ROTATE_90)
    picture.paste(ink, (*at, at[0] + line.width, at[1] + line.height), line)


def _blend(paper: tuple[int, int, int], ink: tuple[int, int, int], share: float) -> tuple[int, ...]:
    return tuple(round(p + (i - p) * share) for p, i in zip(paper, ink, strict=True))
