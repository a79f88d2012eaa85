"""What an engine says of one instance, in words that both sides share."""

from __future__ import annotations

from dataclasses import dataclass

from verify_pipeline.interop.instance_list import Answer, SetInstance

WORDS = {
    Answer.SAT: "falsified",
    Answer.UNSAT: "verified",
    Answer.TIMEOUT: "unknown",
    Answer.UNKNOWN: "unknown",
}


@dataclass(frozen=True)
class Given:
    """An answer.

    Attributes:
        instance: an image's place, or the names of a line's files.
        answer: verified, falsified or unknown.
        seconds: that it took.
        domains: that were searched, where it is known; else 0.
    """

    instance: str
    answer: str
    seconds: float
    domains: int


def name_of(instance: SetInstance) -> str:
    """The names of a line's files."""
    return f"{instance.key.onnx} {instance.key.vnnlib}"
