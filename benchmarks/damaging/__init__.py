"""Damage to running certifications and trainings, and whether they end as undisturbed ones do."""
