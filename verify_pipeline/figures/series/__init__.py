"""What figures draw, computed from verdicts and metrics; nothing here needs matplotlib."""
