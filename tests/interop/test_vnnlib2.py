"""VNN-LIB 2.0, by the package that parses it; what it says is what VNN-LIB 1.0 would say."""

from __future__ import annotations

import importlib
import random
from types import ModuleType

import pytest

from verify_pipeline.errors import DataError, DependencyError, VerifyPipelineError
from verify_pipeline.interop.properties import VnnlibProperty
from verify_pipeline.interop.vnnlib import parse_vnnlib

HEAD = """; a comment
(vnnlib-version <2.0>)
(declare-network N
  (declare-input Image float32 [1,2])
  (declare-output Logits float32 [1,3])
)
"""
BOX = """(assert (and (>= Image[0,0] -0.5) (<= Image[0,0] 0.5)))
(assert (or (<= 1.0 Image[0,1] ) (<= Image[0,1] -1.0)))
(assert (and (<= Image[0,1] 2.0) (>= Image[0,1] -2.0)))
"""
OUTPUTS = """(assert (or
  (and (>= Logits[0,0] Logits[0,1]) (> Logits[0,2] 1.0))
  (<= (+ Logits[0,0] (* 2.0 Logits[0,1]) (- 3.0)) (- Logits[0,2] 1.0))))
"""
SAME_IN_1 = """(declare-const X_0 Real) (declare-const X_1 Real)
(declare-const Y_0 Real) (declare-const Y_1 Real) (declare-const Y_2 Real)
(assert (and (>= X_0 -0.5) (<= X_0 0.5)))
(assert (or (<= 1.0 X_1) (<= X_1 -1.0)))
(assert (and (<= X_1 2.0) (>= X_1 -2.0)))
(assert (or (and (>= Y_0 Y_1) (> Y_2 1.0)) (<= (+ Y_0 (* 2.0 Y_1) (- 3.0)) (- Y_2 1.0))))
"""


@pytest.fixture
def package() -> ModuleType:
    """The parser; tests that need it are skipped without it."""
    module: ModuleType = pytest.importorskip("vnnlib", reason="the package vnnlib is not installed")
    return module


def numbers(found: VnnlibProperty) -> object:
    sides = [(c.lower, c.upper, c.lower_open, c.upper_open) for c in found.cases]
    rows = [(k.rows, k.bounds, k.strict) for case in found.cases for k in case.conjunctions]
    return [[one.tolist() for one in part] for part in (*sides, *rows)]


@pytest.mark.usefixtures("package")
def test_the_same_as_in_version_1() -> None:
    found, expected = parse_vnnlib(HEAD + BOX + OUTPUTS), parse_vnnlib(SAME_IN_1)
    assert (found.inputs, found.outputs) == (2, 3)
    assert len(found.cases) == 2
    assert numbers(found) == numbers(expected)


@pytest.mark.usefixtures("package")
def test_elements_are_in_row_major_order() -> None:
    head = HEAD.replace("[1,2]", "[2,1,3]").replace("float32", "real")
    limits = "".join(
        f"(assert (and (<= Image[{i},0,{j}] {3 * i + j}.5) (>= Image[{i},0,{j}] 0.0)))\n"
        for i in range(2)
        for j in range(3)
    )
    (case,) = parse_vnnlib(head + limits + "(assert (>= Logits[0,2] 0.0))").cases
    assert case.upper.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]
    assert case.conjunctions[0].rows.tolist() == [[0, 0, -1]]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("float32", "float16", "inputs of type real, float32 or float64; got F16"),
        ("Image float32 [1,2])", "Image float32 [1,2]) (declare-input Z real [1])", "one input;"),
        (")\n)", ") (declare-output Z real [1]))", "one output;"),
        (")\n(assert", ")\n(assert (!= Logits[0,0] 1.0))\n(assert", "got NotEqual"),
        ("Logits[0,2] 1.0", "Logits[0,3] 1.0", "expected VNN-LIB 2.0; got line 11: "),
        ("(assert", "(assume", "expected VNN-LIB 2.0"),
        ("(<= Image[0,1] 2.0)", "(<= Image[0,1] Image[0,0])", "constraints of one input, or"),
        ("(* 2.0 ", "(* Logits[0,0] ", "a product of variables"),
    ],
)
@pytest.mark.usefixtures("package")
def test_what_is_not_covered_is_named(old: str, new: str, message: str) -> None:
    text = HEAD + BOX + OUTPUTS
    assert old in text
    with pytest.raises(DataError, match=message):
        parse_vnnlib(text.replace(old, new, 1))


@pytest.mark.usefixtures("package")
def test_two_networks() -> None:
    second = HEAD[HEAD.index("(declare-network") :].replace(" N\n", " M\n")
    second = second.replace("Image", "Other").replace("Logits", "Others")
    with pytest.raises(DataError, match="expected one network; got 2 networks"):
        parse_vnnlib(HEAD + second + BOX + OUTPUTS)


@pytest.mark.usefixtures("package")
def test_brackets_without_end() -> None:
    with pytest.raises(DataError, match="at most 200 brackets"):
        parse_vnnlib(HEAD + BOX + "(assert " + "(or " * 100_000)


@pytest.mark.usefixtures("package")
def test_broken_files_are_refused() -> None:
    rng = random.Random(31)
    text = HEAD + BOX + OUTPUTS
    refused = 0
    for _ in range(100):
        start = rng.randrange(len(text))
        cut = text[:start] + text[start + rng.randint(1, 8) :]
        try:
            parse_vnnlib(cut)
        except VerifyPipelineError:
            refused += 1
    assert 30 < refused < 100


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ModuleType:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(DependencyError, match=r"pip install 'verify_pipeline\[vnnlib2\]'"):
        parse_vnnlib(HEAD + BOX + OUTPUTS)
