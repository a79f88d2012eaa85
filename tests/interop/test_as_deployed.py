"""unsat as deployed: no evaluation of the file in an arithmetic meets the property."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.cli.typed import command
from tests.onnx_networks import layers_file, node, onnx_file
from verify_pipeline.bounds.forward_error import row_errors
from verify_pipeline.errors import ConfigError, DataError
from verify_pipeline.interop.decide import decide, property_plan
from verify_pipeline.interop.instance_list import Answer, Key, read_instances
from verify_pipeline.interop.set_merging import merge_results
from verify_pipeline.interop.sets import Result, SetJob, read_results, run_set, write_results
from verify_pipeline.interop.table import as_frame, read_rows
from verify_pipeline.interop.vnnlib import parse_vnnlib
from verify_pipeline.network.arithmetic import FLOAT32
from verify_pipeline.onnx import Network, network_from_bytes
from verify_pipeline.problem import Box, Reason, Specification

DECLARED = "".join(f"(declare-const {name}_{i} Real)" for name in "XY" for i in range(2))
REAL, SINGLE = property_plan(5.0), property_plan(5.0, arithmetic="float32")
CANCELS = layers_file(("n", 2), ([[1, 0], [0, 1]], [1e8, 0]), "Relu", ([[1, 0], [0, 0]], [-1e8, 0]))
"""Y_0 = (1e8 + X_0) - 1e8, which float32 rounds to multiples of 8, and Y_1 = 0."""


def text(least: float, assertion: str) -> str:
    limits = f"(>= X_0 {least}) (<= X_0 {least + 1}) (>= X_1 0) (<= X_1 1)"
    return f"{DECLARED}(assert (and {limits}))(assert {assertion})"


@pytest.fixture(scope="module")
def cancels() -> Network:
    # the parity check would find that the file computes something else
    return replace(network_from_bytes(CANCELS, check_parity=False), compared=False)


ALONE = "(<= Y_0 2)"
SPARE = "(and (<= Y_0 2) (<= Y_1 1))"
MAXIMA = "(or (and (<= Y_0 2) (<= Y_1 1)) (and (<= Y_0 1) (<= Y_1 2)))"
CASES = "(or (and (<= X_0 {middle}) (<= Y_0 2)) (and (>= X_0 {middle}) (<= Y_0 1)))"


@pytest.mark.parametrize("assertion", [ALONE, SPARE, MAXIMA, CASES])
def test_every_kind_of_property_needs_a_margin_beyond_the_errors(
    cancels: Network, assertion: str
) -> None:
    for least, single in ((5.0, Answer.UNKNOWN), (500.0, Answer.UNSAT)):
        prop = parse_vnnlib(text(least, assertion.replace("{middle}", str(least + 0.5))))
        (real,) = decide(cancels, [prop], REAL)
        (deployed,) = decide(cancels, [prop], SINGLE)
        assert real.answer is Answer.UNSAT
        assert deployed.answer in ({single, Answer.TIMEOUT} if least < 100 else {single})
    assert Reason.NOT_ANALYSED.value not in deployed.detail


def test_a_maximum_moves_by_its_rows_errors(cancels: Network) -> None:
    """The greatest row's margin over [5, 6] is 3, what float32 may change by 143."""
    assert cancels.written is not None
    box = Box(torch.tensor([[5.0, 0.0]]).double(), torch.tensor([[6.0, 1.0]]).double())
    rows = torch.eye(2).double()[None]
    spec = Specification(rows, torch.tensor([[-2.0, -1.0]]).double())
    (errors,) = row_errors(cancels.written.graph, box, spec, FLOAT32)
    assert 3 < float(errors[0]) < 200
    assert float(errors[1]) < 1e-6
    # Y_1 is never below -1 by far: one row of the conjunction is enough where inputs are split
    prop = parse_vnnlib(text(5.0, "(and (<= Y_0 2) (<= Y_1 -1))"))
    (spare,) = decide(cancels, [prop], SINGLE)
    assert spare.answer is Answer.UNSAT


def test_sat_stays_a_replayed_counterexample(cancels: Network) -> None:
    (found,) = decide(cancels, [parse_vnnlib(text(5.0, "(<= Y_0 100)"))], SINGLE)
    assert found.answer is Answer.SAT
    assert found.point is not None


@pytest.mark.parametrize(
    ("assertion", "margin", "answer"),
    [
        ("(<= Y_0 Y_1)", 1e-3, Answer.UNSAT),
        ("(<= Y_0 Y_1)", 1e-6, Answer.UNKNOWN),  # below 96 u of the scores
    ],
)
def test_a_softmax_at_the_end(assertion: str, margin: float, answer: Answer) -> None:
    """Scores ``X_0 + margin`` and ``X_0`` up to 100."""
    linear = ([[1, 0], [1, 0]], [margin, 0])
    network = network_from_bytes(layers_file(("n", 2), linear, "Softmax"))
    (found,) = decide(network, [parse_vnnlib(text(0.25, assertion))], SINGLE)
    assert found.answer in {answer, *({Answer.TIMEOUT} if answer is Answer.UNKNOWN else ())}


@pytest.mark.parametrize(
    ("assertion", "exceeds"),
    [
        ("(<= Y_0 Y_1)", True),
        ("(or (<= Y_1 Y_0) (<= Y_1 Y_0))", True),
        ("(<= (* 2 Y_0) (* 2 Y_1))", False),  # other distances of scores would do
        ("(<= Y_0 0.5)", False),
        ("(or (<= Y_0 Y_1) (<= Y_1 Y_0))", False),
        ("(and (<= Y_0 Y_1) (<= Y_0 0.5))", False),
    ],
)
def test_whether_one_output_exceeds_all_others(assertion: str, exceeds: bool) -> None:
    (case,) = parse_vnnlib(text(0.25, assertion)).cases
    assert case.one_exceeds_all is exceeds


def test_an_operation_that_is_not_analysed_is_named() -> None:
    nodes = [node("Resize", "x", "", "s", "r", mode="nearest"), node("Flatten", "r", "y")]
    weights = {"s": torch.tensor([1.0, 1.0, 1.0, 2.0]).numpy()}
    network = network_from_bytes(onnx_file(nodes, ("n", 1, 1, 1), weights=weights))
    prop = parse_vnnlib(
        "(declare-const X_0 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)"
        "(assert (and (>= X_0 1) (<= X_0 2) (<= Y_0 0)))"
    )
    (real,), (single,) = decide(network, [prop], REAL), decide(network, [prop], SINGLE)
    assert (real.answer, single.answer) == (Answer.UNSAT, Answer.UNKNOWN)
    assert "Resize" in single.detail


def job(folder: Path, arithmetic: str | None) -> SetJob:
    return SetJob(
        folder / "results.csv",
        None,
        lambda seconds: property_plan(seconds, arithmetic=arithmetic),
        seconds=20,
    )


def test_results_of_one_file_are_about_one_arithmetic(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(layers_file(("n", 2), ([[1, 0], [0, 1]], [0, 0])))
    (tmp_path / "p.vnnlib").write_text(text(5.0, ALONE))
    (tmp_path / "instances.csv").write_text("net.onnx,p.vnnlib,20\n")
    instances = read_instances(tmp_path / "instances.csv")
    (found,) = run_set(instances, job(tmp_path, "float32")).values()
    assert (found.answer, found.arithmetic) == (Answer.UNSAT, "float32")
    path = tmp_path / "results.csv"
    assert path.read_text().splitlines()[0].endswith(",detail,arithmetic")
    before = path.read_text()
    assert run_set(instances, job(tmp_path, "float32")) == read_results(path)
    for other in (None, "bfloat16"):
        with pytest.raises(ConfigError, match="a file about float32"):
            run_set(instances, job(tmp_path, other))
    assert path.read_text() == before
    path.write_text(before.replace("float32", "float8"))
    with pytest.raises(DataError, match="float8"):
        read_results(path)


KEYS = [Key("a.onnx", f"{n}.vnnlib") for n in range(1, 4)]


def test_a_table_has_both(tmp_path: Path) -> None:
    real = [Result(Answer.UNSAT, 1.0), Result(Answer.UNSAT, 1.0), Result(Answer.SAT, 1.0)]
    single = [
        Result(Answer.UNSAT, 1.0, "", "float32"),
        Result(Answer.UNKNOWN, 1.0, "", "float32"),
        Result(Answer.SAT, 1.0, "", "float32"),
    ]
    places = [tmp_path / name for name in ("known", "deployed")]
    for place in places:
        place.mkdir()
    reference = "".join(f"a.onnx,{n}.vnnlib,unknown\n" for n in range(1, 4))
    (places[0] / "toy.csv").write_text(f"onnx,vnnlib,verdict\n{reference}")
    path = write_results(tmp_path / "toy.csv", dict(zip(KEYS, real, strict=True)))
    beside = write_results(places[1] / "toy.csv", dict(zip(KEYS, single, strict=True)))
    (row,) = as_frame(read_rows([path], *places)).to_dict("records")
    assert (row["unsat"], row["unsat_tried"], row["as_deployed"]) == (2, 2, 1)
    assert row["arithmetic"] == "float32"
    assert "as_deployed" not in as_frame(read_rows([path], places[0]))
    options = ("--references", places[0], "--as-deployed", places[1], "--out", tmp_path / "table")
    code, _, err = command("vnncomp-table", path, *options)
    assert code == 0, err
    assert "| As deployed |" in (tmp_path / "table.md").read_text(encoding="utf-8")
    assert ",as_deployed," in (tmp_path / "table.csv").read_text(encoding="utf-8")
    with pytest.raises(DataError, match="--as-deployed"):
        read_rows([beside], places[0])  # results about an arithmetic where others are expected
    with pytest.raises(DataError, match="none of them"):
        read_rows([path], places[0], tmp_path / "nowhere")
    write_results(beside, dict(zip(KEYS, real, strict=True)))
    with pytest.raises(DataError, match="real numbers"):
        read_rows([path], *places)


def test_shards_of_different_arithmetics_are_not_merged(tmp_path: Path) -> None:
    for name in ("net.onnx", "1.vnnlib", "2.vnnlib"):
        (tmp_path / name).write_text("")
    (tmp_path / "list.csv").write_text("net.onnx,1.vnnlib,9\nnet.onnx,2.vnnlib,9\n")
    listed = read_instances(tmp_path / "list.csv")
    results = [Result(Answer.UNSAT, 1.0), Result(Answer.UNSAT, 1.0, "", "float32")]
    files = [
        write_results(tmp_path / f"{n}.csv", {instance.key: result})
        for n, (instance, result) in enumerate(zip(listed, results, strict=True))
    ]
    with pytest.raises(DataError, match="float32 and real numbers"):
        merge_results(listed, files, tmp_path / "all.csv")
    assert not (tmp_path / "all.csv").exists()


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.onnx").write_bytes(CANCELS)
    Path("near.vnnlib").write_text(text(5.0, ALONE))
    Path("far.vnnlib").write_text(text(500.0, ALONE))
    Path("list.csv").write_text("net.onnx,near.vnnlib,5\nnet.onnx,far.vnnlib,5\n")
    options = ("--no-parity-check", "--arithmetic", "float32")
    one = ("vnnlib", "--onnx", "net.onnx", "--property", "far.vnnlib", *options)
    assert command(*one)[:2] == (0, "unsat\n")
    code, _, err = command("vnncomp", "list.csv", "--out", "out.csv", *options, "--jobs", 2)
    assert code == 0, err
    answers = {key.vnnlib: one.answer for key, one in read_results(Path("out.csv")).items()}
    assert answers["far.vnnlib"] is Answer.UNSAT
    assert answers["near.vnnlib"] is not Answer.UNSAT
    code, _, err = command("vnncomp", "list.csv", "--out", "out.csv")
    assert code == 2
    assert "about float32" in err
