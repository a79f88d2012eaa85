"""Figures of results and of trainings, for papers and for a page."""
