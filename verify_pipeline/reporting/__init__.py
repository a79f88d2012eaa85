"""Tables of certifications, as text, CSV and Markdown; and progress while they are made."""

from verify_pipeline.reporting.card import model_card
from verify_pipeline.reporting.files import write_images, write_table
from verify_pipeline.reporting.json_lines import JsonLines
from verify_pipeline.reporting.progress import ProgressBars
from verify_pipeline.reporting.progress_display import (
    ProgressDisplay,
    Watching,
    noted_certification,
    noted_training,
    watched,
)
from verify_pipeline.reporting.render import as_markdown, as_rich, as_text
from verify_pipeline.reporting.tables import seconds_table, verdict_table

__all__ = [
    "JsonLines",
    "ProgressBars",
    "ProgressDisplay",
    "Watching",
    "as_markdown",
    "as_rich",
    "as_text",
    "model_card",
    "noted_certification",
    "noted_training",
    "seconds_table",
    "verdict_table",
    "watched",
    "write_images",
    "write_table",
]
