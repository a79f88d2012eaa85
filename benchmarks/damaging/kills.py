"""Commands that are killed at random moments, and given again."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from damaging.jobs import Job, Prepared, SharedCertification
from damaging.processes import kill_with_children, run, start

AGAIN = 0.7
"""The share of commands that continue a job and are killed, too."""


@dataclass(frozen=True)
class Kills:
    """What came of a job that was killed again and again.

    Attributes:
        job: what it was, and who was killed.
        kills: processes that SIGKILL ended before they were done.
        too_late: processes that were done before.
        folders: in which a job was begun, killed, and given again until it was done.
        equal: of these, those with the undisturbed result.
    """

    job: str
    kills: int
    too_late: int
    folders: int
    equal: int


def kill_often(
    prepared: Prepared, job: Job, kills: int, place: Path, chance: random.Random
) -> Kills:
    """Kill a job at random moments until so many processes were killed.

    In each folder, the command is killed; it is given again and, with the chance :data:`AGAIN`,
    killed again; in the end it runs to its end.

    Args:
        prepared: with the undisturbed result.
        job: one of the prepared ones.
        kills: how many.
        place: for the folders; each is removed afterwards.
        chance: decides the moments.
    """
    killed = late = folders = equal = 0
    while killed < kills:
        folder = place / f"{job.name}-{folders}"
        folders += 1
        again = True
        while again and killed < kills:
            moment = chance.uniform(0.0, prepared.seconds[job.name])
            ended = run(job.command(folder), prepared.log, kill_after=moment)
            killed += ended.code == -9
            late += ended.code != -9
            again = ended.code == -9 and chance.random() < AGAIN
        equal += prepared.ends_as_undisturbed(job, folder)
        shutil.rmtree(folder)
    return Kills(job.name, killed, late, folders, equal)


def kill_one_of_two(prepared: Prepared, rounds: int, place: Path, chance: random.Random) -> Kills:
    """Let two certifications share a ledger, and kill one of them: the other does all of it."""
    job = prepared.certification
    killed = equal = 0
    for number in range(rounds):
        folder = place / f"two-{number}"
        logs = [prepared.log.with_name(f"two-{which}.txt") for which in range(2)]
        processes = [start(job.command(folder), log) for log in logs]
        victim = chance.randrange(2)
        processes[victim].join(chance.uniform(0.0, prepared.seconds[job.name]))
        processes[victim].kill()
        for process in processes:
            process.join()
        killed += processes[victim].exitcode == -9
        survived = processes[1 - victim].exitcode == 0
        equal += survived and job.result(folder) == prepared.results[job.name]
        shutil.rmtree(folder)
    return Kills("two certifications on one ledger", killed, rounds - killed, rounds, equal)


def kill_the_driver(prepared: Prepared, rounds: int, place: Path, chance: random.Random) -> Kills:
    """Kill the driver of a certification by workers, and give the command again.

    Equal are those whose workers ended by themselves, and that ended with the undisturbed result.
    """
    job = SharedCertification(prepared.certification.network)
    undisturbed = prepared.results[prepared.certification.name]
    whole = run(job.command(place / "driver"), prepared.log)
    killed = equal = 0
    for number in range(rounds):
        folder = place / f"driver-{number}"
        process = start(job.command(folder), prepared.log)
        process.join(chance.uniform(0.0, whole.seconds))
        left = kill_with_children(process)
        killed += process.exitcode == -9
        again = run(job.command(folder), prepared.log)
        equal += not left and again.code == 0 and job.result(folder) == undisturbed
        shutil.rmtree(folder)
    return Kills(
        "certification by two workers, their driver", killed, rounds - killed, rounds, equal
    )
