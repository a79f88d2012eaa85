"""Damages certifications and trainings, continues them, and counts what came of it.

    python benchmarks/robustness.py [--kills 100] [--seed 0] [--out results/trust.md]

It takes about ten minutes of one core. Disks that are full, and folders that are read-only for
root, need the right to mount a disk in memory; without it, these rows are left out or use
permissions.
"""

from __future__ import annotations

import argparse
import random
import shlex
import sys
import tempfile
from pathlib import Path

from damaging import conditions
from damaging.jobs import EPOCHS, IMAGES, Prepared, prepare
from damaging.kills import Kills, kill_often, kill_one_of_two, kill_the_driver
from damaging.page import page

from verify_pipeline.atomic_write import write_whole

CLOCKS = 3
"""Times that a clock goes back for each job."""


MOMENTS = tuple(number / 10 for number in range(10))
"""When memory runs out, in shares of each job."""


def kills_of(prepared: Prepared, kills: int, place: Path, seed: int) -> list[Kills]:
    """Both jobs; two certifications on one ledger, and the driver of two workers, more rarely."""
    chance = random.Random(seed)
    found = [kill_often(prepared, job, kills, place, chance) for job in prepared.jobs]
    return [
        *found,
        kill_one_of_two(prepared, max(1, kills // 5), place, chance),
        kill_the_driver(prepared, max(1, kills // 10), place, chance),
    ]


def tries_of(prepared: Prepared, place: Path) -> list[conditions.Tries]:
    """Both jobs under all conditions."""
    found = []
    for job in prepared.jobs:
        found.append(conditions.full_files(prepared, job, place, conditions.FILE_SIZES))
        if conditions.can_mount():
            found.append(conditions.full_disks(prepared, job, place, conditions.DISK_SIZES))
        found += [
            conditions.read_only_folders(prepared, job, place),
            conditions.backward_clock(prepared, job, place, CLOCKS),
            conditions.little_room(prepared, job, place, MOMENTS),
        ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="processes killed of each job")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, default=Path("results/trust.md"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        prepared = prepare(place / "undisturbed")
        kills = kills_of(prepared, options.kills, place, options.seed)
        tries = tries_of(prepared, place)
    command = shlex.join(["python", "benchmarks/robustness.py", *sys.argv[1:]])
    text = page(command, IMAGES, EPOCHS, kills, tries)
    write_whole(options.out, text)
    print(text)


if __name__ == "__main__":
    main()
