"""LaTeX: what pdflatex compiles, within the width of the page."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.reporting.runs import run
from tests.reporting.test_cells import THREE
from verify_pipeline.certify.tally import Summary
from verify_pipeline.reporting import Layout, as_latex, result_table, write_table
from verify_pipeline.reporting.latex_text import latex_text

NAMES = ("两\n行 𝛼", "50%_{x}~#^$\\&", "[bold]", "*", "αβγΩΑο", "网络", "Müller-Å-ęß", "<a|b>")


def compiled(folder: Path, runs: list[Summary], layout: Layout, name: str) -> str:
    """The log of pdflatex; it has to succeed."""
    compiler = shutil.which("pdflatex")
    if compiler is None:
        pytest.skip("pdflatex is not installed: LaTeX was not compiled")
    write_table(runs, folder, name, "verify-pipeline table 网 --out $x_%", layout)
    text = "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\n"
    text += f"\\input{{{name}.tex}}\\end{{document}}\n"
    (folder / "paper.tex").write_text(text, encoding="utf-8")
    words = [compiler, "-halt-on-error", "-interaction=nonstopmode", "paper.tex"]
    result = subprocess.run(words, cwd=folder, capture_output=True, check=False)
    log = (folder / "paper.log").read_text(encoding="utf-8", errors="replace")
    assert result.returncode == 0, log[-2000:]
    return log


@pytest.mark.parametrize(
    "layout",
    [Layout(), Layout(literature=True), Layout(by=("method",)), Layout(columns=("network",))],
)
def test_a_table_compiles_and_fits_on_the_page(tmp_path: Path, layout: Layout) -> None:
    odd = [run(3, open_=1, alpha=1 + place, name=name) for place, name in enumerate(NAMES)]
    log = compiled(tmp_path, [*THREE, *odd], layout, "results")
    assert "Overfull" not in log


def test_a_range_may_be_the_first_cell_of_a_row(tmp_path: Path) -> None:
    """Behind the end of a line, LaTeX reads a bracket as a length."""
    runs = [run(5, open_=1), run(6, open_=1, alpha=0.2)]
    compiled(tmp_path, runs, Layout(columns=("robust", "verified")), "results")


def test_any_name_of_the_files_is_a_label(tmp_path: Path) -> None:
    table = result_table(THREE)
    assert r"\label{tab:a-b--1.2}" in as_latex(table, "c", "a#b网_1.2".replace("_", "%"))


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("98.43†", r"98.43$^\dagger$"),
        ("ε ± α − λ", r"$\varepsilon$ $\pm$ $\alpha$ $-$ $\lambda$"),
        ("ΛΑ", r"$\Lambda$A"),
        ("e\u0301", r"\'{e}"),
        ("ñ", r"\~{n}"),
        ("中", "U+4E2D"),
        ("ą", "U+0105"),
        ("a\tb\x1b", "a b "),
    ],
)
def test_characters_become_what_pdflatex_knows(text: str, made: str) -> None:
    assert latex_text(text) == made


def test_figures_not_compared_with_the_paper_keep_their_mark() -> None:
    table = result_table([run(9, epsilon=0.1, loss="cc-ibp")], Layout(literature=True))
    assert r"98.43$^\dagger$" in as_latex(table, "c")
