"""The card of a published network: what it is, its results, and the commands behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from verify_pipeline.certify.tally import Summary
from verify_pipeline.markdown import markdown_code, markdown_text
from verify_pipeline.reporting.render import as_markdown

FACTS = {
    "network": "Network",
    "data": "Trained on",
    "loss": "Loss",
    "alpha": "α",
    "epsilon": "ε it is meant for",
    "seed": "Seed",
    "recipe": "Recipe",
    "verify_pipeline": "verify_pipeline",
}
"""Metadata of an ONNX file that a card repeats, and their headings."""


def model_card(
    name: str,
    metadata: Mapping[str, str],
    digest: str,
    results: Sequence[Summary],
    commands: Mapping[str, str],
) -> str:
    """A Markdown page for one ONNX file.

    Args:
        name: of the file, without ending.
        metadata: the file's own notes.
        digest: SHA-256 of the file, in hexadecimal.
        results: certifications of the file.
        commands: what makes the network again, and what wrote this card, by purpose.
    """
    known = {key: markdown_text(metadata[key]) for key in FACTS if key in metadata}
    facts = [f"| {FACTS[key]} | {value} |" for key, value in known.items()]
    versions = sorted({record.versions for result in results for record in result.records})
    return "\n".join(
        [
            f"# {markdown_text(name)}",
            "",
            "| | |",
            "|---|---|",
            *facts,
            f"| SHA-256 | `{digest}` |",
            f"| Verdicts made with | {markdown_text('; '.join(versions))} |",
            "",
            "Inputs are pixels in [0, 1], `N x C x H x W`; normalisation is inside; outputs are "
            "logits.",
            "",
            as_markdown(results, commands["publish"]),
            *(f"* {purpose}: {markdown_code(command)}" for purpose, command in commands.items()),
            "",
        ]
    )
