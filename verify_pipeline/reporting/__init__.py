"""Tables of certifications, as text, CSV and Markdown; and progress while they are made."""

from verify_pipeline.reporting.card import model_card
from verify_pipeline.reporting.cells import Layout, result_table
from verify_pipeline.reporting.files import write_images, write_table
from verify_pipeline.reporting.formats import rendered
from verify_pipeline.reporting.html import as_html
from verify_pipeline.reporting.json_lines import JsonLines
from verify_pipeline.reporting.latex import as_latex
from verify_pipeline.reporting.other_tools import OtherVerdicts, read_other_verdicts
from verify_pipeline.reporting.progress import ProgressBars
from verify_pipeline.reporting.progress_display import (
    ProgressDisplay,
    Watching,
    noted_certification,
    noted_training,
    watched,
)
from verify_pipeline.reporting.radius_progress import watched_radius
from verify_pipeline.reporting.radius_tables import (
    radii_as_rich,
    radii_notes,
    radii_title,
    write_radii,
)
from verify_pipeline.reporting.render import (
    as_markdown,
    as_rich,
    as_text,
    seconds_by_stage,
    terminal_table,
)
from verify_pipeline.reporting.table import lifted, narrowed
from verify_pipeline.reporting.tables import seconds_table, verdict_table

__all__ = [
    "JsonLines",
    "Layout",
    "OtherVerdicts",
    "ProgressBars",
    "ProgressDisplay",
    "Watching",
    "as_html",
    "as_latex",
    "as_markdown",
    "as_rich",
    "as_text",
    "lifted",
    "model_card",
    "narrowed",
    "noted_certification",
    "noted_training",
    "radii_as_rich",
    "radii_notes",
    "radii_title",
    "read_other_verdicts",
    "rendered",
    "result_table",
    "seconds_by_stage",
    "seconds_table",
    "terminal_table",
    "verdict_table",
    "watched",
    "watched_radius",
    "write_images",
    "write_radii",
    "write_table",
]
