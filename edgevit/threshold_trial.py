"""Trying a bundle's graph under thresholds on pictures: what each setting costs and how it decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevit.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from edgevit.bundle import Bundle
    from edgevit.manifest import Manifest
    from edgevit.spec import RoutingSpec

__all__ = ["Pictures", "TradeOff", "Trial"]

_SHARES = (0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
_Arrays = dict[str, "np.ndarray"]


@dataclass(frozen=True, kw_only=True)
class TradeOff:
    """A setting of the thresholds and what it does to the pictures.

    Attributes:
        share: of the patches that the bundle's present thresholds take after the first step; None where the patches
            were given.
        thresholds: raw router logits for the steps after the first.
        patches: mean number that each step takes, the first included.
        gflops: mean of an image, in the rungs that it takes; of a `mask` graph, which computes all tokens, the whole.
        accuracy: on the labelled pictures; None without labels.
        agreement: share of pictures that are decided as under the present thresholds.
    """

    share: float | None
    thresholds: tuple[float, ...]
    patches: tuple[float, ...]
    gflops: float
    accuracy: float | None
    agreement: float


@dataclass(frozen=True)
class Pictures:
    """What is calibrated on: images n x 3 x H x W float32, and the classes, n, where there are labels."""

    images: np.ndarray
    truth: np.ndarray | None

    @classmethod
    def of(cls, bundle: Bundle, data: Path, samples: int, *, labelled: bool) -> Pictures:
        import numpy as np

        from edgevit.image_folder import ImageFolder, list_images

        if samples < 1:
            raise InputError(f"--samples {samples}; wanted 1 or more")
        if (data / "train").is_dir() and (data / "val").is_dir():
            data = data / "train"
        labels, truth = bundle.manifest.labels, None
        loose = labelled and data.is_dir() and not any(path.is_dir() for path in data.iterdir())
        if loose:
            raise InputError(
                f"{data}: holds no folder per class, by which an accuracy is told; give labelled pictures, or --share "
                "or --patches for what these are to cost"
            )
        if labelled or (data.is_dir() and {path.name for path in data.iterdir() if path.is_dir()} & set(labels)):
            folder = ImageFolder.open(data)
            unknown = [label for label in folder.labels if label not in labels]
            if unknown:
                raise InputError(
                    f"{data}: holds class {', '.join(unknown)}; name the folders by the labels: {', '.join(labels)}"
                )
            paths = [path for path, _ in folder.items]
            truth = np.array([labels.index(folder.labels[target]) for _, target in folder.items])
        else:
            paths = list_images(data)
        taken = np.linspace(0, len(paths) - 1, min(samples, len(paths))).round().astype(int)
        images = bundle.manifest.preprocess.batch([paths[i] for i in taken])
        return cls(images, None if truth is None else truth[taken])


class Trial:
    """A bundle's graph, tried under thresholds."""

    def __init__(
        self,
        manifest: Manifest,
        graph: bytes,
        routing: RoutingSpec,
        pictures: Pictures,
        report: Callable[[float], None] | None,
    ) -> None:
        self._manifest = manifest
        self._graph = graph
        self._routing = routing
        self._pictures = pictures
        self._report = report
        self._runs = 0
        self._expected = 1 + (len(_SHARES) + 1) * (routing.steps - 1)

    def curve(self, share: float | None, patches: tuple[float, ...] | None) -> list[TradeOff]:
        """The present setting first, then those around it and the one asked for."""
        from edgevit.thresholds import NOTHING

        steps = self._routing.steps
        first = self._run([NOTHING] * (steps - 1))  # no step after the first: its scores depend on no threshold
        present = self._run(self._routing.thresholds)
        taken = present["counts"][:, 1:].mean(axis=0)
        points = [self._point(1.0, self._routing.thresholds, present, present)]
        shares = {*_SHARES, *([] if share is None else [share])} - {1.0} if taken.max() else set()
        if share == 1.0 or (taken.max() == 0 and patches is None):
            raise InputError(
                "the present thresholds take these patches already; give another --share"
                if share == 1.0
                else "the present thresholds take no patch of any picture; say how many with --patches"
            )
        wanted = [(part, tuple((part * taken).clip(max=self._routing.tokens).tolist())) for part in sorted(shares)]
        for part, counts in [*wanted, *([] if patches is None else [(None, patches)])]:
            thresholds = self._thresholds(counts, first)
            points.append(self._point(part, thresholds, self._run(thresholds), present))
        return points

    def answers(self, graph: bytes, images: np.ndarray) -> _Arrays:
        """Every output of a graph for n x 3 x H x W."""
        import numpy as np

        from edgevit.runtimes.ort import OrtRunner

        batch = self._manifest.input.shape[0]
        parts: list[_Arrays] = []
        with OrtRunner(graph) as runner:
            for start in range(0, len(images), batch):
                chunk = images[start : start + batch]
                filled = np.concatenate([chunk, np.repeat(chunk[-1:], batch - len(chunk), axis=0)])
                parts.append({name: value[: len(chunk)] for name, value in runner(filled).items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def form(self, thresholds: Sequence[float], **forms: bool) -> bytes:
        """The graph under these thresholds.

        Raises:
            InputError: an older edgevit made it, which gave thresholds no names.
        """
        from edgevit.export.recalibrate import recalibrated

        try:
            return recalibrated(self._graph, thresholds, **forms)
        except KeyError as error:
            raise InputError(f"the graph has no {error.args[0]} to set; export the model again") from error

    def _run(self, thresholds: Sequence[float]) -> _Arrays:
        outputs = self.answers(self.form(thresholds, scores=True), self._pictures.images)
        self._runs += 1
        if self._report is not None:
            self._report(min(1.0, self._runs / self._expected))
        return outputs

    def _thresholds(self, counts: Sequence[float], first: _Arrays) -> tuple[float, ...]:
        """The thresholds that take these patches on average, found step by step with those before in force."""
        from edgevit.export.recalibrate import score_output
        from edgevit.thresholds import NOTHING, separating_threshold

        found = [NOTHING] * len(counts)
        images = len(self._pictures.images)
        for step, count in enumerate(counts, start=1):
            outputs = first if step == 1 else self._run(found)
            candidates = outputs["depth"] >= step
            if not candidates.any() or round(count * images) == 0:
                break  # nothing goes further
            found[step - 1] = separating_threshold(outputs[score_output(step)][candidates], round(count * images))
        return tuple(found)

    def _point(self, share: float | None, thresholds: tuple[float, ...], got: _Arrays, present: _Arrays) -> TradeOff:
        decided, truth = got["logits"].argmax(axis=1), self._pictures.truth
        return TradeOff(
            share=share,
            thresholds=thresholds,
            patches=tuple(got["counts"].mean(axis=0).tolist()),
            gflops=self._gflops(got["counts"]),
            accuracy=None if truth is None else float((decided == truth).mean()),
            agreement=float((decided == present["logits"].argmax(axis=1)).mean()),
        )

    def _gflops(self, counts: np.ndarray) -> float:
        """Mean of an image with these counts, n x R: the worst case less what the rungs leave out."""
        import numpy as np

        cost: dict[str, Any] = self._manifest.cost
        total = float(cost["flops"]) / self._manifest.input.shape[0]
        if "ladders" not in cost:
            return total / 1e9
        for step in range(1, self._routing.steps):
            rungs = [rung for rung in cost["ladders"]["rungs"] if rung["step"] == step]
            flops = np.array([rung["flops"] for rung in rungs]) / self._manifest.input.shape[0]
            place = np.searchsorted([rung["patches"] for rung in rungs], counts[:, step])
            total -= float((flops[-1] - flops[place]).mean())
        return total / 1e9
