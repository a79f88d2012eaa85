"""Tables of certifications: from a ledger's records to text, CSV and Markdown."""

from verify_pipeline.reporting.card import model_card
from verify_pipeline.reporting.files import write_images, write_table
from verify_pipeline.reporting.progress import ProgressBars
from verify_pipeline.reporting.render import as_markdown, as_rich, as_text
from verify_pipeline.reporting.tables import images_table, seconds_table, verdict_table

__all__ = [
    "ProgressBars",
    "as_markdown",
    "as_rich",
    "as_text",
    "images_table",
    "model_card",
    "seconds_table",
    "verdict_table",
    "write_images",
    "write_table",
]
