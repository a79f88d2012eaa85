"""Rows of a ledger's tables, checked as they are read: no verdict without its evidence.

Anybody can edit a ledger, and a table must count only verdicts with evidence. A row alone shows the
kind of its evidence, and whether its stage can give such a verdict in such a run; both are checked.
Only certifying again shows whether a bound is right.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from verify_pipeline import strict_json
from verify_pipeline.certify.questions import ball_of, is_question, specification_of
from verify_pipeline.certify.records import (
    Entry,
    PackedCounterexample,
    Record,
    Run,
    RunInfo,
    input_digest,
    pack,
    settings_digest,
    unpack,
)
from verify_pipeline.certify.specifications import OutputSpecification
from verify_pipeline.certify.stage_verdicts import CLAIMING_STAGES, DECIDES, IN_PLACE_OF
from verify_pipeline.errors import DataError, LedgerError
from verify_pipeline.problem import Counterexample, Reason, StageResult, Status

RUN_COLUMNS = (
    "network, data_set, split, perturbation, specification, settings_digest, network_name, epsilon,"
    " settings, outputs, input_shape, notes"
)
VERDICT_COLUMNS = (
    "image, instance, label, verdict, reason, stage, bound, margin, seconds, timeout, attempts, "
    "detail, versions, decided_at, stages, input, input_shape, output"
)
YEAR_10000 = 253_402_300_800.0
"""Unix time in seconds from which on Python has no dates."""

_SHAPE = re.compile(r"\d{1,9}(?:,\d{1,9})*")


class UnfoundedError(Exception):
    """A row that this package cannot have written.

    Args:
        expected: of the row.
        got: what it holds instead.
    """

    def __init__(self, expected: str, got: object) -> None:
        self.expected = expected
        self.got = repr(got)[:80]
        super().__init__(f"expected {expected}; got {self.got}")


def read_run(row: Sequence[Any]) -> RunInfo:
    """The run of a row with the columns :data:`RUN_COLUMNS`.

    Raises:
        UnfoundedError: a column is invalid.
    """
    network, _, _, _, _, digest, name, epsilon, settings, outputs, shape, notes = row
    for text in (*row[:7], settings):
        _need(isinstance(text, str), "texts that name the run", text)
    run = Run(*row[:6])
    _need(re.fullmatch("[0-9a-f]{64}", network), "a network's SHA-256", network)
    _need(is_question(run), "a question", f"{run.perturbation}; {run.specification}")
    _need(digest == settings_digest(settings), f"settings of the digest {digest}", "others")
    _need(_stages(settings), "settings that name the stages", settings)
    ball = ball_of(run.perturbation.partition("; ")[0])
    known = None if ball is None else ball.epsilon
    _need(epsilon == known, f"ε of the boxes {run.perturbation}", epsilon)
    _need(outputs is None or _is_count(outputs, 1), "the number of outputs", outputs)
    _need(shape is None or _is_shape(shape), "the shape of an image", shape)
    axes = None if shape is None else tuple(int(axis) for axis in shape.split(","))
    return RunInfo(run, name, epsilon, settings, outputs, axes, _notes(notes))


@dataclass(frozen=True)
class RowReader:
    """Reads the verdicts of one run.

    Attributes:
        info: the run.
    """

    info: RunInfo

    def read(self, row: Sequence[Any]) -> Record:
        """The record of a row with the columns :data:`VERDICT_COLUMNS`.

        Raises:
            UnfoundedError: the row lacks the evidence of its verdict, or a column is invalid.
        """
        *values, packed_input, shape, output = row
        _check_values(values)
        status, reason = Status(values[3]), None if values[4] is None else Reason[values[4]]
        record = Record(values[0], values[1], values[2], status, reason, *values[5:14])
        record = replace(record, stages=_stage_results(values[14]))
        self._check_label(record)
        self._check_stage(record)
        evidence = (packed_input, shape, output)
        if status is Status.FALSIFIED:
            found = self._check_counterexample(record, evidence)
            record = replace(record, counterexample=input_digest(found.input))
        else:
            held = [one for one in (*evidence, record.margin) if one is not None]
            _need(not held, f"no counterexample of a {status.value} image", "one")
        if status is Status.VERIFIED and record.stage not in CLAIMING_STAGES:
            bound = record.bound
            proves = bound is not None and 0 < bound < math.inf
            _need(proves, "a finite bound > 0 of a verified image", bound)
        return record

    @cached_property
    def _specification(self) -> OutputSpecification | None:
        """The run's specification, if its text defines it."""
        return specification_of(self.info.run.specification)

    @cached_property
    def _allowed(self) -> frozenset[str]:
        """The stages that may stand in a row of the run."""
        asked = _stages(self.info.settings)
        return frozenset(asked) | {name for name, other in IN_PLACE_OF.items() if other in asked}

    def _check_label(self, record: Record) -> None:
        label, outputs = record.label, self.info.outputs
        if self._specification is not None:
            _need(label is not None, "a label", label)
        if label is not None and outputs is not None and self._specification is not None:
            _need(label < outputs, f"a label from 0 to {outputs - 1}", label)

    def _check_stage(self, record: Record) -> None:
        stage, status = record.stage, record.status
        _need(stage in self._allowed, f"one of the run's stages {sorted(self._allowed)}", stage)
        if status is not Status.UNKNOWN:
            able = sorted(name for name in self._allowed if status in DECIDES[name])
            _need(stage in able, f"{status.value} by one of {', '.join(able)}", stage)

    def _check_counterexample(self, record: Record, evidence: Sequence[Any]) -> Counterexample:
        """A whole one, of the network's sizes, at which the specification does not hold."""
        packed, shape, output = evidence
        stored = isinstance(packed, bytes) and isinstance(output, bytes) and _is_shape(shape)
        _need(stored, "a counterexample of a falsified image", "none that can be read")
        margin = record.margin
        _need(margin is not None and -math.inf < margin <= 0, "a margin <= 0", margin)
        try:
            found = unpack(PackedCounterexample(packed, shape, output, float(margin or 0.0)))
        except (LedgerError, ValueError) as error:
            raise UnfoundedError("a counterexample without damage", str(error)) from None
        axes, wanted = tuple(found.input.shape), self.info.input_shape
        # of as many numbers: a user's arrays of one name may be flat today and images tomorrow
        fits = wanted is None or math.prod(axes) == math.prod(wanted)
        _need(fits, f"a counterexample of shape {wanted}", axes)
        count, outputs = found.output.numel(), self.info.outputs
        _need(outputs in (None, count), f"{outputs} outputs at the counterexample", count)
        self._check_margin(record, found)
        return found

    def _check_margin(self, record: Record, found: Counterexample) -> None:
        """Check that the outputs break the run's specification, if its text defines it."""
        asked, count = self._specification, found.output.numel()
        if asked is None or record.label is None:
            return
        _need(record.label < count, f"a label from 0 to {count - 1}", record.label)
        label = torch.tensor([record.label])
        try:
            spec = asked.of(label, torch.tensor([record.index]), count)
        except (DataError, IndexError):
            raise UnfoundedError(f"outputs that {asked.name} is about", count) from None
        least = float(spec.least(spec.exact_values(found.output.unsqueeze(0))))
        _need(least <= 0, "outputs that break the specification", f"a margin of {least}")


def _check_values(values: Sequence[Any]) -> None:
    """Check that each column holds a value of its type."""
    index, instance, label, verdict, reason, stage, bound, margin, seconds, timeout = values[:10]
    attempts, detail, versions, decided_at = values[10:14]
    _need(_is_count(index), "the place of an image", index)
    digest = isinstance(instance, str) and re.fullmatch("[0-9a-f]{32}", instance)
    _need(digest, "an instance's digest", instance)
    _need(label is None or _is_count(label), "a label >= 0", label)
    _need(verdict in [status.value for status in Status], "a verdict", verdict)
    if verdict == Status.UNKNOWN.value:
        _need(reason in Reason.__members__, f"a reason for '{verdict}'", reason)
    else:
        _need(reason is None, f"no reason for '{verdict}'", reason)
    _need(isinstance(stage, str), "a stage", stage)
    _need(bound is None or _is_number(bound), "a bound", bound)
    _need(margin is None or _is_number(margin), "a margin", margin)
    _need(_is_number(seconds) and 0 <= seconds < math.inf, "seconds >= 0", seconds)
    _need(_is_number(timeout) and 0 < timeout < math.inf, "a timeout > 0", timeout)
    _need(_is_count(attempts, 1), "a number of attempts", attempts)
    _need(isinstance(detail, str) and isinstance(versions, str), "texts", (detail, versions))
    dated = _is_number(decided_at) and 0 <= decided_at < YEAR_10000
    _need(dated, "the time of the verdict", decided_at)


def _stages(settings: str) -> tuple[str, ...]:
    """The stages that settings name; none if the text is not of settings."""
    try:
        named = strict_json.parse(settings)["stages"]
    except (ValueError, TypeError, KeyError):
        return ()
    known = isinstance(named, list) and all(isinstance(n, str) and n in DECIDES for n in named)
    return tuple(named) if known else ()


def _notes(text: object) -> dict[str, str]:
    """The notes of a network's file, from JSON; none in ledgers of older versions."""
    found = {} if text is None else _parsed(text)
    are_texts = isinstance(found, dict) and all(isinstance(one, str) for one in found.values())
    _need(are_texts, "notes of a network's file as JSON", text)
    return found


def _stage_results(text: object) -> tuple[StageResult, ...]:
    """What the stages did, from JSON; nothing in ledgers of older versions."""
    found = [] if text is None else _parsed(text)
    _need(isinstance(found, list) and all(map(_is_result, found)), "results of stages", text)
    return tuple(StageResult(*each) for each in found)


def _is_result(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 3:
        return False
    stage, seconds, bound = value
    timed = _is_number(seconds) and 0 <= seconds < math.inf
    named = isinstance(stage, str) and stage in DECIDES
    return named and timed and (bound is None or _is_number(bound))


def _parsed(text: object) -> Any:
    """The value of a JSON text; None if it is none."""
    try:
        return strict_json.parse(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _is_number(value: object) -> bool:
    return isinstance(value, float) or _is_whole(value)


def _is_count(value: object, least: int = 0) -> bool:
    return isinstance(value, int) and _is_whole(value) and value >= least


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_shape(value: object) -> bool:
    return isinstance(value, str) and _SHAPE.fullmatch(value) is not None


def _need(holds: object, expected: str, got: object) -> None:
    if not holds:
        raise UnfoundedError(expected, got)


def values_of(run: int, entry: Entry, timeout: float, versions: str) -> tuple[Any, ...]:
    """A row of the table of verdicts as it is written, without its number of attempts."""
    verdict = entry.verdict
    evidence: tuple[Any, ...] = (None, None, None, None)
    if verdict.counterexample is not None:
        packed = pack(verdict.counterexample)
        evidence = (packed.input, packed.shape, packed.output, packed.margin)
    stages = [[each.stage, each.seconds, each.bound] for each in verdict.stages]
    return (
        run,
        entry.index,
        entry.instance,
        entry.label,
        verdict.status.value,
        verdict.reason.name if verdict.reason else None,
        verdict.stage,
        verdict.bound,
        verdict.seconds,
        timeout,
        *evidence,
        verdict.detail,
        versions,
        max(0.0, time.time()),  # a clock may be set back to before 1970
        json.dumps(stages, ensure_ascii=False),
    )
