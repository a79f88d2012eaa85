"""Certification: stages from cheap to strong over all open images, and the ledger of verdicts."""
