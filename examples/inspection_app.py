"""An inspection station on a page: a verdict for every picture that lies in a folder or arrives in it.

    python examples/inspection_app.py d/topk pictures
    python examples/inspection_app.py d/topk incoming --watch --overlays seen

What it embeds is three calls: `edgevit.load`, `session.predict`, `draw_depth`. Neither torch nor onnx is needed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import edgevit
from edgevit.errors import EdgevitError, InputError
from edgevit.image_folder import IMAGE_EXTENSIONS
from edgevit.preprocess import open_image
from edgevit.runtimes.overlay import draw_depth
from edgevit.runtimes.prediction import Prediction

POLL_S = 0.2


def inspect(bundle: Path, folder: Path, *, watch: bool, overlays: Path | None, threads: int | None) -> None:
    """Judge pictures until there are no more, or until Ctrl-C when watching."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; wanted the one where the pictures are")
    if overlays is not None and overlays.resolve() == folder.resolve():
        raise InputError(f"--overlays {overlays}: they would be judged as pictures; give another folder")
    found: Counter[str] = Counter()
    with edgevit.load(bundle, threads=threads) as session:
        preprocess = session.bundle.manifest.preprocess
        try:
            for path in pictures(folder, watch):
                try:
                    prediction = session.predict(path)
                except EdgevitError as error:
                    print(f"{path.name}: no verdict: {error}")  # one bad picture must not stop the line
                    continue
                print(verdict(path, prediction), flush=True)
                found[prediction.label] += 1
                if overlays is not None and prediction.routing is not None:
                    overlays.mkdir(parents=True, exist_ok=True)
                    # Depths lie on what the model saw: the whole picture, or what was cropped from it.
                    looked_at = preprocess.resized(path) if preprocess.resize == "crop" else open_image(path)
                    draw_depth(looked_at, prediction.routing).save(overlays / f"{path.stem}.depth.png")
        except KeyboardInterrupt:
            print()
    print(", ".join(f"{label} {count}" for label, count in found.most_common()) or "no pictures")


def pictures(folder: Path, watch: bool) -> Iterator[Path]:
    """The pictures of a folder in the order of their names; when watching, those that arrive or change later too.

    When watching, a picture is given once its size and time are the same as a poll before: until then somebody may be
    writing it. Should a writer pause for longer, the picture comes again when it has changed.
    """
    before: dict[Path, tuple[int, int]] = {}
    given: dict[Path, tuple[int, int]] = {}
    while True:
        now = {path: _state(path) for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_EXTENSIONS}
        for path, state in now.items():
            if state is not None and state != given.get(path) and (not watch or state == before.get(path)):
                given[path] = state
                yield path
        if not watch:
            return
        before = {path: state for path, state in now.items() if state is not None}
        time.sleep(POLL_S)


def _state(path: Path) -> tuple[int, int] | None:
    """Size in bytes and time of the last change in ns; None if the file has just been taken away."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns


def verdict(path: Path, prediction: Prediction) -> str:
    """One line: the label, how sure, and the share of a dense model's steps that the picture was given."""
    line = f"{path.name:<38} {prediction.label:<34} {100 * prediction.score:5.1f} %"
    if prediction.routing is not None:
        counts = prediction.routing.counts
        line += f"   depth {100 * sum(counts) / (len(counts) * counts[0]):3.0f} %"
    return f"{line}   {prediction.timings.total_ns / 1e6:6.1f} ms"


def main() -> None:
    """Read the command line; what the user can mend is one line."""
    parser = argparse.ArgumentParser(description="A verdict for every picture in a folder.")
    parser.add_argument("bundle", type=Path, help="a folder that `edgevit export` wrote")
    parser.add_argument("folder", type=Path, help="where the pictures are")
    parser.add_argument("--watch", action="store_true", help="go on with the pictures that arrive")
    parser.add_argument("--overlays", type=Path, metavar="DIR", help="draw where the model looked, into this folder")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads")
    arguments = parser.parse_args()
    try:
        inspect(**vars(arguments))
    except (EdgevitError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
