"""Do the modes of a model give one answer? Each against torch, and against each other, on every image of a folder.

    python benchmarks/suites/agreement.py MODEL DATA [--output FOLDER]

The reference is torch in fp32 on the trained module, all tokens computed and masked. Tokens that differ are listed with
the margin of their score: under 1e-5 of the spread it is a near-tie, above it a fault (exit status 1).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

import edgevit
from edgevit.export.reference import golden_samples
from edgevit.image_folder import ImageFolder
from edgevit.models.opening import open_model
from edgevit.parity import compare
from edgevit.runtimes.choose import open_runner

ATOL, RTOL = 1e-4, 1e-4


def main() -> int:
    """Export the modes, run all images through each, print what agrees."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, default=Path("runs/agreement"))
    arguments = parser.parse_args()
    source = open_model(arguments.model)
    folder = ImageFolder.open(arguments.data)
    images = source.preprocess.batch([path for path, _ in folder.items])
    names = tuple(f"{path.parent.name}/{path.name}" for path, _ in folder.items)
    logits, faults = {}, 0
    for routing in ("topk", "mask"):
        bundle = edgevit.export_model(source.name, output=arguments.output / routing, routing=routing, force=True)
        golden = golden_samples(source.module, bundle.manifest.routing, names, images)
        with open_runner(bundle) as runner:
            parity = compare(golden, runner, ATOL, RTOL)
            logits[routing] = np.concatenate([runner(image[None])["logits"] for image in images])
        faults += len(parity.faults)
        print(
            f"{routing} against torch on {parity.inputs} images: largest difference of a logit "
            f"{parity.largest_difference:.1e}, decisions alike {parity.decisions_agreeing}, tokens alike at each step "
            f"{parity.tokens_agreeing}, near-ties {len(parity.near_ties)}, faults {len(parity.faults)}"
        )
        for tie in parity.near_ties:
            print(f"  near-tie: {tie.image}, step {tie.step}, patch {tie.patch}, margin {tie.margin:.1e}")
        for fault in parity.faults:
            print(f"  fault: {fault}")
    difference = np.abs(logits["topk"] - logits["mask"]).max()
    alike = int((logits["topk"].argmax(axis=1) == logits["mask"].argmax(axis=1)).sum())
    print(
        f"topk against mask: largest difference of a logit {difference:.1e}, decisions alike {alike} of {len(images)}"
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
