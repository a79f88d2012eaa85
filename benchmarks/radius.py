"""The radii of a set by bisection, against certifying the whole set at every ε of the grid.

``python benchmarks/radius.py NETWORK DATA --up-to 0.2 --steps 16 64 --images 200 --timeout 20``

Both run in this process, on one thread, with ledgers in memory, and processor seconds are counted.
The loop's counts at every ε have to lie between those of the bisection.
"""

import argparse
import time
from pathlib import Path

import torch

from verify_pipeline import api


class Verdicts(api.CertifyObserver):
    """Counts verdicts and rounds."""

    def __init__(self) -> None:
        self.count = self.rounds = 0

    def started(self, images: int, decided: int) -> None:
        """A round begins."""
        self.rounds += 1

    def decided(self, index: int, verdict: api.Verdict) -> None:
        """One more."""
        self.count += 1


def compare(
    network: api.Network, images: api.ImageSet, given: argparse.Namespace, steps: int
) -> str:
    """One row: verdicts and seconds of both, and their ratio."""

    def settings(epsilon: float) -> api.CertifySettings:
        return api.CertifySettings(
            epsilon=epsilon, indices=f":{given.images}", timeout=given.timeout
        )

    seen, begun = Verdicts(), time.process_time()
    found = api.radius(network, images, settings(given.up_to), steps=steps, observer=seen)
    ours = time.process_time() - begun
    verdicts, begun = 0, time.process_time()
    for epsilon in found.grid:
        tally = api.certify(network, images, settings(epsilon)).tally
        verdicts += tally.images
        proved = sum(image.verified >= epsilon for image in found.images)
        most = sum(image.falsified > epsilon for image in found.images)
        if tally.proved > most or tally.not_broken < proved:
            raise SystemExit(f"ε = {epsilon}: {tally} against {proved} to {most}")
    loop = time.process_time() - begun
    cells = (steps, seen.rounds, seen.count, verdicts, f"{ours:.1f}", f"{loop:.1f}")
    return f"| {' | '.join(map(str, cells))} | {loop / ours:.1f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", type=Path)
    parser.add_argument("data")
    parser.add_argument("--up-to", type=float, required=True)
    parser.add_argument("--steps", type=int, nargs="+", default=[16])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--timeout", type=float, default=20.0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    network, images = api.load_network(given.network), api.load_images(given.data, "test")
    print("| steps | rounds | verdicts | … of the loop | seconds | … of the loop | ratio |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for steps in given.steps:
        print(compare(network, images, given, steps), flush=True)


if __name__ == "__main__":
    main()
