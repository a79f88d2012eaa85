"""One module for each figure: series in, a matplotlib figure out."""
