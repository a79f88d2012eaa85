"""Headings under which `--help` shows a command's options; each option names one of them."""

RECIPE = "What the recipe says"
IMAGES = "Which images"
QUESTION = "What is asked"
SEARCH = "How it is searched"
CHECKS = "What is checked"
ABCROWN = "How α,β-CROWN is run"
MACHINE = "Where data is, and where it is computed"
TABLE = "What the table shows"
FIGURE = "What the figure shows"
OUTPUT = "Where it is written"

ALL = (RECIPE, IMAGES, QUESTION, SEARCH, CHECKS, ABCROWN, MACHINE, TABLE, FIGURE, OUTPUT)
