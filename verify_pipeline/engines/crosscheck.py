"""Both engines on the same instances: open images, or lists of VNN-COMP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from verify_pipeline.certify.contract import Certifiable, Observer
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.questions import Question
from verify_pipeline.certify.records import Record
from verify_pipeline.certify.run import certify_set
from verify_pipeline.certify.settings import CertifySettings, asking_abcrown
from verify_pipeline.certify.stage_verdicts import SEARCHING_STAGES
from verify_pipeline.data import ImageSet
from verify_pipeline.engines.comparison import Pair, Side
from verify_pipeline.engines.sets import run_set
from verify_pipeline.engines.stage import Setup
from verify_pipeline.errors import ConfigError
from verify_pipeline.interop import sets
from verify_pipeline.interop.instance_list import Answer, Key, SetInstance
from verify_pipeline.interop.sets import Result, SetJob
from verify_pipeline.problem import Status


@dataclass(frozen=True, eq=False)
class Job:
    """What :func:`crosscheck_images` is about.

    Attributes:
        network: in a file.
        images: the whole set.
        settings: of both certifications; their stages end with our branch and bound.
        ledger: of both, continued.
        device: where bounds and attacks are computed, and the tool works.
        question: what is asked of each image; None: that it keeps its class.
    """

    network: Certifiable
    images: ImageSet
    settings: CertifySettings
    ledger: Path
    device: torch.device | str = "cpu"
    question: Question | None = None


def crosscheck_images(
    job: Job, setup: Setup, observer: Observer | None = None, limit: int | None = None
) -> list[Pair]:
    """Certify with our search, and let the tool decide the images that cheap stages leave open.

    These are two runs in one ledger, so that the same call continues both.

    Args:
        job: what is certified.
        setup: how α,β-CROWN is run.
        observer: is told what happens, of both.
        limit: how many open images are compared at most, from the first on; None: all.

    Raises:
        ConfigError: the settings have no branch and bound, or the network no file.
        VerifyPipelineError: as in ``certify_set``.
    """
    if "branch-and-bound" not in job.settings.stages:
        raise ConfigError("stages", expected="branch-and-bound among them", got="others only")
    with Ledger.open(job.ledger) as book:
        certified = partial(
            certify_set,
            job.network,
            job.images,
            ledger=book,
            observer=observer,
            device=job.device,
            question=job.question,
        )
        ours = certified(job.settings)
        hard = [record for record in ours.records if _came_last(record)][:limit]
        if not hard:
            return []
        asked = replace(
            asking_abcrown(job.settings), indices=",".join(str(record.index) for record in hard)
        )
        theirs = certified(asked, abcrown=setup.stage)
    by_index = {record.index: record for record in theirs.records}
    return [
        Pair(f"{job.images.name} {record.index}", _side(record), _side(by_index[record.index]))
        for record in hard
        if _came_last(by_index[record.index])
    ]


def _came_last(record: Record) -> bool:
    """Whether the stages before the last one left an image open."""
    return record.stage in SEARCHING_STAGES or record.status is Status.UNKNOWN


def _side(record: Record) -> Side:
    holds = None if record.status is Status.UNKNOWN else record.status is Status.VERIFIED
    word = record.status.value
    if record.reason is not None:
        word += f" ({record.reason.name.lower().replace('_', ' ')})"
    return Side(holds, word, record.seconds, record.detail)


def crosscheck_set(
    instances: Sequence[SetInstance],
    job: SetJob,
    setup: Setup,
    config: str,
    progress: Callable[[str, Key, Result], None] = lambda engine, key, result: None,
) -> list[Pair]:
    """Run both engines on a VNN-COMP list.

    Args:
        instances: of the list.
        job: how our side is run; the tool's results go beside its results file, as
            ``….abcrown.csv``. Both files are continued.
        setup: how α,β-CROWN is run.
        config: YAML text in its schema.
        progress: is told each new result, and whose it is.

    Raises:
        DataError: a results file is of another form, or cannot be written.
    """
    ours = sets.run_set(instances, job, partial(progress, "builtin"))
    place = job.results.with_suffix(".abcrown.csv")
    theirs = run_set(
        instances, replace(job, results=place), setup, config, partial(progress, "abcrown")
    )
    return [
        Pair(f"{one.key.onnx} {one.key.vnnlib}", _answer(ours[one.key]), _answer(theirs[one.key]))
        for one in instances
    ]


def _answer(result: Result) -> Side:
    holds = {Answer.UNSAT: True, Answer.SAT: False}.get(result.answer)
    return Side(holds, result.answer.value, result.seconds, result.detail)
