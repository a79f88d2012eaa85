"""What a reader needs to make a run again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from verify_pipeline import strict_json
from verify_pipeline.certify.questions import ball_of
from verify_pipeline.certify.settings import CertifySettings, plan
from verify_pipeline.certify.specifications import MARGINS
from verify_pipeline.certify.tally import Summary
from verify_pipeline.errors import ConfigError
from verify_pipeline.page.evidence import RunEvidence
from verify_pipeline.reporting.facts import epsilon_text


@dataclass(frozen=True)
class Reproduction:
    """What made a run.

    Attributes:
        facts: names and values: hashes, seeds, versions.
        commands: by what they do.
        texts: long texts by their titles: recipe, settings.
    """

    facts: tuple[tuple[str, str], ...]
    commands: Mapping[str, str]
    texts: Mapping[str, str]


def reproduction(evidence: RunEvidence) -> Reproduction:
    """What is known of a run's making."""
    info = evidence.summary.info
    texts = {"Recipe (YAML)": evidence.recipe} if evidence.recipe else {}
    training = info.notes.get("training", "")
    if training and not evidence.recipe:
        texts["Settings of the training (JSON)"] = _indented(training)
    texts["Settings of the certification (JSON)"] = _indented(info.settings)
    commands = dict(evidence.commands)
    again = _certify_command(evidence.summary)
    if again:
        commands[_certify_title(evidence.summary)] = again
    facts = tuple((name, value) for name, value in _facts(evidence.summary).items() if value)
    return Reproduction(facts, commands, texts)


def _facts(summary: Summary) -> dict[str, str]:
    info, records = summary.info, summary.records
    run, notes = info.run, info.notes
    seed = notes.get("seed", "") if "verify_pipeline" in notes else ""
    images = summary.decided if summary.asked is None else summary.asked.union(summary.decided)
    timeouts = sorted({record.timeout for record in records})
    moments = [record.decided_at for record in records]
    return {
        "Network": f"{info.network_name}.onnx",
        "SHA-256 of the network": run.network,
        "Data": f"{run.data_set}, {run.split}, images {images.text or 'none'}",
        "Boxes": run.perturbation,
        "Specification": run.specification,
        "Digest of the settings": run.settings,
        "Seed of the training": seed,
        "Seed of the attack": _attack_seed(info.settings),
        "Seconds allowed for each image": ", ".join(f"{each:g}" for each in timeouts),
        "Versions": " · ".join(dict.fromkeys(record.versions for record in records)),
        "Decided": f"from {_moment(min(moments))} to {_moment(max(moments))}" if moments else "",
    }


def _certify_command(summary: Summary) -> str:
    """The command that asks the same question; empty where files would have to be named."""
    info, run = summary.info, summary.info.run
    if ball_of(run.perturbation) is None or run.specification != MARGINS.name:
        return ""
    if info.epsilon is None or run.split not in ("train", "test"):
        return ""
    base, _, order = run.data_set.partition(":")
    words = ["verify-pipeline", "certify", f"{info.network_name}.onnx", "--data", base]
    words += ["--class-order", order] if order else []
    words += ["--split", run.split] if run.split != "test" else []
    words += ["--epsilon", epsilon_text(info.epsilon), "--stages", ",".join(summary.stages)]
    if summary.asked is not None:
        words += ["--indices", summary.asked.text]
    timeouts = {record.timeout for record in summary.records}
    words += ["--timeout", f"{max(timeouts):g}"] if timeouts else []
    return shlex.join(words)


def _certify_title(summary: Summary) -> str:
    """What the command does, and whether its defaults are what the run tried."""
    epsilon = summary.info.epsilon or 0.0
    stages: Any = summary.stages  # names that CertifySettings checks
    try:
        default = plan(CertifySettings(epsilon=epsilon, stages=stages)).digest
    except (ConfigError, ValueError):  # another version has other stages
        default = ""
    if default == summary.info.run.settings:
        return "Certify the network again"
    return "Certify the network again; the run had other settings than these defaults, see below"


def _attack_seed(settings: str) -> str:
    found = strict_json.parse(settings).get("attack")
    return str(found.get("seed", "")) if isinstance(found, dict) else ""


def _indented(text: str) -> str:
    try:
        return json.dumps(strict_json.parse(text), indent=2, ensure_ascii=False, sort_keys=True)
    except ValueError:
        return text


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
