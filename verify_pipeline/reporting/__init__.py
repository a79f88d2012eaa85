"""Tables of certifications, as text, CSV and Markdown; and progress while they are made."""

from verify_pipeline.reporting.card import model_card
from verify_pipeline.reporting.files import write_images, write_table
from verify_pipeline.reporting.progress import ProgressBars
from verify_pipeline.reporting.progress_display import ProgressDisplay, Watching, watched
from verify_pipeline.reporting.radius_progress import watched_radius
from verify_pipeline.reporting.radius_tables import (
    radii_as_rich,
    radii_notes,
    radii_title,
    write_radii,
)
from verify_pipeline.reporting.render import as_markdown, as_rich, as_text
from verify_pipeline.reporting.tables import seconds_table, verdict_table

__all__ = [
    "ProgressBars",
    "ProgressDisplay",
    "Watching",
    "as_markdown",
    "as_rich",
    "as_text",
    "model_card",
    "radii_as_rich",
    "radii_notes",
    "radii_title",
    "seconds_table",
    "verdict_table",
    "watched",
    "watched_radius",
    "write_images",
    "write_radii",
    "write_table",
]
