"""The settings of a search, and α,β-CROWN's files that hold them."""
