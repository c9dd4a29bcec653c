"""An inspection station in a page: a verdict for every picture that lies in a folder or arrives in it.

    python examples/inspection_app.py d/topk pictures
    python examples/inspection_app.py d/topk incoming --watch --overlays seen

What it embeds is three lines: `edgevit.load`, `session.predict`, `draw_depth`. Neither torch nor onnx is needed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import edgevit
from edgevit.errors import EdgevitError
from edgevit.image_folder import IMAGE_EXTENSIONS
from edgevit.preprocess import open_image
from edgevit.runtimes.overlay import draw_depth
from edgevit.runtimes.prediction import Prediction

POLL_S = 0.2


def main() -> None:
    """Judge pictures until there are no more, or until Ctrl-C when watching."""
    arguments = parse()
    counts: dict[str, int] = {}
    with edgevit.load(arguments.bundle, threads=arguments.threads) as session:
        try:
            for path in pictures(arguments.folder, arguments.watch):
                try:
                    prediction = session.predict(path)
                except EdgevitError as error:
                    print(f"{path.name}: no verdict: {error}")  # one bad picture must not stop the line
                    continue
                print(verdict(path, prediction), flush=True)
                counts[prediction.label] = counts.get(prediction.label, 0) + 1
                if arguments.overlays is not None and prediction.routing is not None:
                    arguments.overlays.mkdir(parents=True, exist_ok=True)
                    overlay = draw_depth(open_image(path), prediction.routing)
                    overlay.save(arguments.overlays / f"{path.stem}.depth.png")
        except KeyboardInterrupt:
            print()
    print(", ".join(f"{label} {count}" for label, count in sorted(counts.items())) or "no pictures")


def pictures(folder: Path, watch: bool) -> Iterator[Path]:
    """Every picture of a folder once, in the order of their names; when watching, those that arrive later too."""
    seen: set[Path] = set()
    while True:
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in IMAGE_EXTENSIONS and path not in seen:
                seen.add(path)
                yield path
        if not watch:
            return
        time.sleep(POLL_S)


def verdict(path: Path, prediction: Prediction) -> str:
    """One line: the label, how sure, and what share of a dense model's work the picture was given."""
    line = f"{path.name:<36} {prediction.label:<34} {prediction.score:6.1%}"
    if prediction.routing is not None:
        counts = prediction.routing.counts
        line += f"   depth {sum(counts) / (len(counts) * counts[0]):4.0%}"
    return f"{line}   {prediction.timings.total_ns / 1e6:5.1f} ms"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="A verdict for every picture in a folder.")
    parser.add_argument("bundle", type=Path, help="a folder that `edgevit export` wrote")
    parser.add_argument("folder", type=Path, help="where the pictures are")
    parser.add_argument("--watch", action="store_true", help="go on with the pictures that arrive")
    parser.add_argument("--overlays", type=Path, metavar="DIR", help="draw where the model looked, into this folder")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads")
    return parser.parse_args()


if __name__ == "__main__":
    main()
