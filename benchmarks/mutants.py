"""Mutants of the search and the bounds: faults put in on purpose, which some test has to notice.

    python benchmarks/mutants.py [NUMBER …]

Each mutant is one replacement in a copy of the repository; the tests named with it run there until
one fails. The list ends with how many were noticed. It takes about a quarter of an hour of a core.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("verify_pipeline", "tests", "abcrown_configs", "benchmarks")
FILES = ("setup.cfg", "pyproject.toml")

LOOP = ("test_loop", "test_loop_limits", "test_kinds", "test_relu_split")


@dataclass(frozen=True)
class Mutant:
    """A fault.

    Attributes:
        name: what is wrong.
        file: of the package.
        before: occurs once in it.
        after: replaces it.
        tests: names of modules in tests/branching, or paths under tests/, that may notice it.
    """

    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...] = LOOP


MUTANTS = (
    Mutant(
        "loop: a tie closes a part",
        "branching/search/loop.py",
        "closed = proved > 0",
        "closed = proved >= 0",
    ),
    Mutant(
        "loop: parts are not counted",
        "branching/search/loop.py",
        "if not torch.equal(self.books.count(whose)",
        "if False and not torch.equal(self.books.count(whose)",
    ),
    Mutant(
        "loop: bounds that are infinite or NaN count",
        "branching/search/loop.py",
        "whose, proved = found.parts.instance, sound_lower(found.proved)",
        "whose, proved = found.parts.instance, found.proved",
    ),
    Mutant(
        "loop: an unproved leaf counts as proved",
        "branching/search/loop.py",
        "proved[leaves].clamp(max=0)",
        "proved[leaves].clamp(min=1)",
    ),
    Mutant(
        "loop: the first open part is lost",
        "branching/search/loop.py",
        "self.frontier.push(found.parts[~closed & ~leaves])",
        "self.frontier.push(found.parts[~closed & ~leaves][1:])",
    ),
    Mutant(
        "loop: an instance without proof is verified",
        "branching/search/loop.py",
        "if 0 < proved < math.inf:",
        "if proved != 0:",
    ),
    Mutant(
        "loop: a refused point is told as a timeout",
        "branching/search/loop.py",
        "yield self._end(n, self._kind.refuted)",
        "yield self._end(n, Reason.TIMEOUT)",
    ),
    Mutant(
        "loop: bounds of some rows are told as the box's",
        "branching/search/loop.py",
        "known = least.isfinite() & (self.books.count(whose) == self._trees)",
        "known = least.isfinite()",
    ),
    Mutant(
        "loop: deadlines end nothing",
        "branching/search/loop.py",
        "for n in self.books.overdue():",
        "for n in []:",
    ),
    Mutant(
        "loop: roots that a kind forgot are not missed",
        "branching/search/loop.py",
        "if bool((without & ~(at_root > 0).all(1)).any()):",
        "if False:",
    ),
    Mutant(
        "books: the greatest bound is what is proved",
        "branching/limits/bookkeeping.py",
        'bounds, "amin")',
        'bounds, "amax")',
        ("test_bookkeeping", *LOOP),
    ),
    Mutant(
        "books: a closed part stays open",
        "branching/limits/bookkeeping.py",
        "        self.open -= self.count(instance)\n",
        "",
        ("test_bookkeeping", *LOOP),
    ),
    Mutant(
        "frontier: what is handed out stays",
        "branching/tree/frontier.py",
        "        self._used[chosen] = False\n",
        "",
        ("test_frontier", *LOOP),
    ),
    Mutant(
        "frontier: another instance is dropped",
        "branching/tree/frontier.py",
        "self._slots.instance != instance",
        "self._slots.instance == instance",
        ("test_frontier", *LOOP),
    ),
    Mutant(
        "splitting: both parts are the active one",
        "branching/tree/splitting.py",
        "for sign in (1, -1)",
        "for sign in (1, 1)",
        ("test_splitting", *LOOP),
    ),
    Mutant(
        "ReLU splits: infinite boxes are searched",
        "branching/search/relu_split.py",
        "self.unbounded = ~exact.are_finite()",
        "self.unbounded = exact.are_finite() & False",
        ("bounds/test_undefined_values.py", *LOOP),
    ),
    Mutant(
        "bounder: confirmed in float32",
        "branching/evaluate/bounder.py",
        "exact = self.view(self.exact, found[claimed])",
        "exact = self.view(self.fast, found[claimed])",
        ("test_search_honest", "test_near_ties", *LOOP),
    ),
    Mutant(
        "bounder: LEVEL is no limit of a bound",
        "branching/evaluate/bounder.py",
        "confirmed.clamp(max=LEVEL)",
        "confirmed",
        ("test_level", "test_cutoff_on_box"),
    ),
    Mutant(
        "cutoff on the box: the sign of LEVEL",
        "branching/improve/cutoff_on_box.py",
        "offset - LEVEL)",
        "offset + LEVEL)",
        (
            "test_level",
            "test_cutoff_on_box",
        ),
    ),
    Mutant(
        "input splits: a bound that is not finite counts",
        "branching/search/input_split.py",
        "torch.maximum(sound_lower(margins.lower), roots.rows)",
        "torch.maximum(margins.lower, roots.rows)",
        ("certify/test_input_split.py", *LOOP),
    ),
    Mutant(
        "early splits: cells are bounded under their parents' splits",
        "branching/search/early_split.py",
        "self._neurons.unflatten(flat)",
        "{p: torch.cat([v, v]) for p, v in parents.splits.items()}",
        (
            "test_early_split",
            "test_cell_search",
        ),
    ),
    Mutant(
        "cells: what was proved while cutting is forgotten",
        "branching/search/cell_search.py",
        "self._proved = float(self._cutting.books.proved)",
        "self._proved = math.inf",
        (
            "test_cell_search",
            "test_portfolio",
        ),
    ),
    Mutant(
        "ways: time of a group goes to nobody",
        "branching/search/ways.py",
        "return (total / members)[group]",
        "return (deadlines.seconds - spent)",
        ("test_ways",),
    ),
    Mutant(
        "bounds: concretisation at the wrong corner",
        "bounds/linear/backward.py",
        "flat.clamp(max=0), box.upper",
        "flat.clamp(max=0), box.lower",
        (
            "bounds/test_by_hand.py",
            "bounds/test_battery.py",
        ),
    ),
    Mutant(
        "bounds: the upper line of a ReLU a little low",
        "bounds/relaxations/relu.py",
        "offset = ((1 - slope) * above * (-below / width)).clamp(min=0)",
        "offset = ((1 - slope) * above * (-below / width)).clamp(min=0) * 0.999",
        (
            "bounds/test_by_hand.py",
            "bounds/test_battery.py",
        ),
    ),
    Mutant(
        "rounding: intervals of layers are not widened",
        "bounds/interval/affine.py",
        "alpha=share)",
        "alpha=0 * share)",
        ("bounds/test_rounding_terms.py",),
    ),
    Mutant(
        "rounding: nodes take nothing from a walk's bound",
        "bounds/linear/backward.py",
        "lost = lost + rounding.of_node(place, coefficients)",
        "lost = lost + 0 * rounding.of_node(place, coefficients)",
        ("bounds/test_rounding_by_hand.py",),
    ),
    Mutant(
        "rounding: the minimum over the box is exact",
        "bounds/linear/backward.py",
        "constants = constants - of_minimum(coefficients, constants, box)",
        "constants = constants - 0 * of_minimum(coefficients, constants, box)",
        ("bounds/test_rounding_by_hand.py",),
    ),
    Mutant(
        "rounding: lines of smooth functions are exact",
        "bounds/relaxations/smooth.py",
        "return share * (steep",
        "return 0 * share * (steep",
        ("bounds/test_rounding_terms.py", "bounds/test_relaxation_rounding.py"),
    ),
    Mutant(
        "bounds: β has the other sign",
        "bounds/optimise/variables.py",
        "self.beta.value * self.sides)\n        return pulled",
        "-self.beta.value * self.sides)\n        return pulled",
        (
            "bounds/test_alpha_beta.py",
            "bounds/test_by_hand.py",
            "bounds/test_battery.py",
        ),
    ),
    Mutant(
        "bounds: an undefined value does no harm",
        "bounds/types.py",
        "        unknown = ~torch.stack(known).all(0)\n",
        "        unknown = ~torch.stack(known).all(0) & False\n",
        ("bounds/test_undefined_values.py",),
    ),
    Mutant(
        "bounds: windows are one pixel off",
        "bounds/intermediate/windows.py",
        "first += x * self.step[1] + self.start[1] + left",
        "first += x * self.step[1] + self.start[1] + left + 1",
        ("bounds/test_receptive_field.py",),
    ),
    Mutant(
        "bounds: ascent keeps the last iterate",
        "bounds/optimise/ascent.py",
        "better = lower > before",
        "better = lower > -torch.inf",
        (
            "bounds/test_alpha_beta.py",
            "bounds/test_battery.py",
        ),
    ),
)
"""In the order of the layers, from the loop down to the bounds."""


def paths(mutant: Mutant) -> list[str]:
    """The tests that may notice it."""
    named = (f"branching/{test}.py" if "/" not in test else test for test in mutant.tests)
    return [f"tests/{name}" for name in named]


def noticed(mutant: Mutant, copy: Path) -> str:
    """The test that fails with the mutant; empty: none does."""
    file = copy / "verify_pipeline" / mutant.file
    text = file.read_text(encoding="utf-8")
    assert text.count(mutant.before) == 1, f"{mutant.name}: {text.count(mutant.before)} places"
    file.write_text(text.replace(mutant.before, mutant.after), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-x", "-q", *paths(mutant)]
    environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    found = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    file.write_text(text, encoding="utf-8")
    failed = [line for line in found.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0].split()[1].partition("[")[0] if failed else ""


def main(numbers: list[int]) -> None:
    """Try the mutants of those numbers, or all, and print what notices them."""
    chosen = [(n, one) for n, one in enumerate(MUTANTS, 1) if not numbers or n in numbers]
    killed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in COPIED:
            shutil.copytree(ROOT / name, copy / name)
        for name in FILES:
            shutil.copy(ROOT / name, copy / name)
        for number, mutant in chosen:
            test = noticed(mutant, copy)
            killed += bool(test)
            print(f"{number}. {mutant.name}: {test or 'SURVIVES'}", flush=True)
    print(f"{killed} of {len(chosen)} are noticed")


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:]])
