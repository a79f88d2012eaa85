"""Whole sets: batches, resuming, broken files, and the comparison with known verdicts."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from tests.onnx_networks import operator_file
from verify_pipeline.errors import DataError, NetworkError, ProcessError
from verify_pipeline.interop import set_decisions, sets
from verify_pipeline.interop.counterexamples import read_counterexample
from verify_pipeline.interop.decide import property_plan
from verify_pipeline.interop.instance_list import (
    Answer,
    Key,
    Reference,
    SetInstance,
    read_instances,
)
from verify_pipeline.interop.sets import (
    Contradiction,
    Result,
    SetJob,
    compare,
    counterexample_name,
    read_results,
    run_set,
    write_results,
)

BOX = "(declare-const X_0 Real) (declare-const Y_0 Real) (assert (and (>= X_0 -1) (<= X_0 2)))\n"
HEAD = "onnx,vnnlib,result,seconds,detail\n"
PROPERTIES = {
    "sat": BOX + "(assert (>= Y_0 1.5))",
    "unsat": BOX + "(assert (<= Y_0 -0.5))",
    "broken": BOX + "(assert (<= Y_0",
    "other": BOX + "(declare-const Y_1 Real) (assert (<= Y_0 Y_1))",
}


@pytest.fixture
def instances(tmp_path: Path) -> tuple[SetInstance, ...]:
    """Of two networks: Y_0 = relu(X_0), and a file that is none."""
    (tmp_path / "relu.onnx").write_bytes(operator_file("Relu", ("n", 1)))
    (tmp_path / "none.onnx").write_bytes(b"no network")
    lines = []
    for name, text in PROPERTIES.items():
        (tmp_path / f"{name}.vnnlib").write_text(text)
        lines += [f"relu.onnx,{name}.vnnlib,30", f"none.onnx,{name}.vnnlib,30"]
    (tmp_path / "instances.csv").write_text("\n".join(lines))
    return read_instances(tmp_path / "instances.csv")


def job(folder: Path) -> SetJob:
    return SetJob(folder / "results.csv", folder / "found", property_plan, seconds=20)


def test_a_set_with_broken_files(instances: tuple[SetInstance, ...], tmp_path: Path) -> None:
    told: list[Key] = []
    found = run_set(instances, job(tmp_path), lambda key, _: told.append(key))
    assert list(found) == [one.key for one in instances]
    assert sorted(told, key=str) == sorted(found, key=str)
    answers = {key.vnnlib: one.answer for key, one in found.items() if key.onnx == "relu.onnx"}
    assert answers == {
        "sat.vnnlib": Answer.SAT,
        "unsat.vnnlib": Answer.UNSAT,
        "broken.vnnlib": Answer.UNKNOWN,
        "other.vnnlib": Answer.UNKNOWN,
    }
    for key, one in found.items():
        if key.onnx == "none.onnx":
            assert one.answer is Answer.UNKNOWN
            assert "none.onnx" in one.detail
    assert "line 2" in found[Key("relu.onnx", "broken.vnnlib")].detail
    assert "outputs of other.vnnlib" in found[Key("relu.onnx", "other.vnnlib")].detail
    (path,) = (tmp_path / "found").iterdir()
    assert path.name == "relu_sat.counterexample"
    assert float(read_counterexample(path).inputs) >= 1.5


def test_what_is_done_is_not_done_again(instances: tuple[SetInstance, ...], tmp_path: Path) -> None:
    key = Key("relu.onnx", "unsat.vnnlib")
    write_results(tmp_path / "results.csv", {key: Result(Answer.TIMEOUT, 7.0, "as, before")})
    told: list[Key] = []
    found = run_set(instances, job(tmp_path), lambda key, _: told.append(key))
    assert found[key] == Result(Answer.TIMEOUT, 7.0, "as, before")
    assert key not in told
    assert len(told) == len(instances) - 1
    again = run_set(instances, job(tmp_path), lambda key, _: pytest.fail("done again"))
    assert {k: one.answer for k, one in again.items()} == {
        k: one.answer for k, one in found.items()
    }


def test_workers_that_cannot_be_started_leave_no_results_file(
    instances: tuple[SetInstance, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object) -> None:
        raise ProcessError("Ray", expected="a cluster", got="no answer")

    monkeypatch.setattr(sets, "decide_by_workers", unreachable)
    several = replace(job(tmp_path), workers=2)
    with pytest.raises(ProcessError):
        run_set(instances, several)
    assert not several.results.exists()
    write_results(several.results, {instances[0].key: Result(Answer.UNSAT, 1.0)})
    with pytest.raises(ProcessError):
        run_set(instances, several)
    assert list(read_results(several.results)) == [instances[0].key]


def test_a_set_without_instances_has_a_results_file_without_lines(tmp_path: Path) -> None:
    assert run_set((), job(tmp_path)) == {}
    assert job(tmp_path).results.read_text() == HEAD


def test_a_result_is_kept_as_it_falls(instances: tuple[SetInstance, ...], tmp_path: Path) -> None:
    told: list[Key] = []

    def stop_after_two(key: Key, _: Result) -> None:
        told.append(key)
        if len(told) == 2:
            raise KeyboardInterrupt

    relu = [one for one in instances if one.onnx.name == "relu.onnx"]
    with pytest.raises(KeyboardInterrupt):
        run_set(relu, job(tmp_path), stop_after_two)
    kept = read_results(tmp_path / "results.csv")
    assert list(kept) == told
    found = run_set(relu, job(tmp_path), lambda key, _: told.append(key))
    assert sorted(told, key=str) == sorted((one.key for one in relu), key=str)
    assert all(found[key] == result for key, result in kept.items())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a,b\n",
        f"{HEAD}a,b,maybe,1,\n",
        "onnx\0",
        f"{HEAD}a,b,sat,nan,\n",
        f"{HEAD}a,b,sat,-1,\n",
        f"{HEAD}a,b,sat,1,\na,b,unsat,1,\n",
    ],
)
def test_another_file_is_not_overwritten(
    text: str, instances: tuple[SetInstance, ...], tmp_path: Path
) -> None:
    (tmp_path / "results.csv").write_text(text)
    with pytest.raises(DataError, match=r"results\.csv"):
        run_set(instances, job(tmp_path))
    assert (tmp_path / "results.csv").read_text() == text


def test_results_read_back(tmp_path: Path) -> None:
    results = {
        Key("a,b.onnx", 'p"q.vnnlib'): Result(Answer.SAT, 0.125),
        Key("a.onnx", "p.vnnlib"): Result(Answer.UNKNOWN, 3.0, "two\nlines, and a comma"),
    }
    path = write_results(tmp_path / "results.csv", results)
    assert read_results(path) == results


def test_comparison() -> None:
    keys = [Key("a.onnx", f"{n}.vnnlib") for n in range(6)]
    answers = [Answer.SAT, Answer.UNSAT, Answer.TIMEOUT, Answer.SAT, Answer.UNSAT, Answer.SAT]
    known = [Answer.SAT, Answer.SAT, Answer.UNSAT, Answer.UNSAT, Answer.UNKNOWN]
    found = compare(
        {key: Result(answer, 0.5) for key, answer in zip(keys, answers, strict=True)},
        {key: Reference(answer, True) for key, answer in zip(keys, known, strict=False)},
    )
    assert (found.known, found.decided, found.seconds) == (4, 3, 3.0)
    assert found.contradictions == (
        Contradiction(keys[1], Answer.UNSAT, Answer.SAT),
        Contradiction(keys[3], Answer.SAT, Answer.UNSAT),
    )
    assert found.answers == {Answer.SAT: 3, Answer.UNSAT: 2, Answer.TIMEOUT: 1}


def test_compressed_networks(instances: tuple[SetInstance, ...], tmp_path: Path) -> None:
    plain = tmp_path / "relu.onnx"
    (tmp_path / "packed.onnx.gz").write_bytes(gzip.compress(plain.read_bytes()))
    (tmp_path / "torn.onnx.gz").write_bytes(gzip.compress(plain.read_bytes())[:40])
    listed = tmp_path / "instances.csv"
    listed.write_text("packed.onnx,sat.vnnlib,30\ntorn.onnx,sat.vnnlib,30\n")
    packed, torn = run_set(read_instances(listed), job(tmp_path)).values()
    assert packed.answer is Answer.SAT
    assert torn.answer is Answer.UNKNOWN
    assert "gzip" in torn.detail
    assert (tmp_path / "found" / "packed_sat.counterexample").is_file()


def test_a_network_that_cannot_be_bounded(
    instances: tuple[SetInstance, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NetworkError("network relu", expected="finite weights", got="NaN")

    monkeypatch.setattr(set_decisions, "decide", refuse)
    found = run_set(instances[:1], job(tmp_path))
    (one,) = found.values()
    assert (one.answer, one.seconds) == (Answer.UNKNOWN, 0.0)
    assert one.detail == "network relu; expected finite weights; got NaN"


def test_names_of_counterexample_files() -> None:
    name = counterexample_name(Path("a/net_4.0_b.onnx"), Path("idx_1_eps_0.002.vnnlib.gz"))
    assert name == "net_4.0_b_idx_1_eps_0.002.counterexample"


def test_what_is_open_is_tried_again_where_that_is_asked_for(
    instances: tuple[SetInstance, ...], tmp_path: Path
) -> None:
    late, decided = Key("relu.onnx", "unsat.vnnlib"), Key("relu.onnx", "sat.vnnlib")
    before = {late: Result(Answer.TIMEOUT, 7.0), decided: Result(Answer.SAT, 3.0)}
    write_results(tmp_path / "results.csv", before)
    told: list[Key] = []
    found = run_set(instances, replace(job(tmp_path), retry=True), lambda key, _: told.append(key))
    assert found[late].answer is Answer.UNSAT
    assert found[decided] == before[decided]
    assert late in told
    assert decided not in told


@pytest.mark.parametrize("where", ["results.csv", "found"])
def test_a_place_that_cannot_be_written_ends_the_run(
    where: str, instances: tuple[SetInstance, ...], tmp_path: Path
) -> None:
    """And is not taken for a fault of the network, whose instances would then be unknown."""
    (tmp_path / "file").write_text("in the way")
    places = {"results.csv": tmp_path / "results.csv", "found": tmp_path / "found"}
    places[where] = tmp_path / "file" / where
    told: list[Key] = []
    with pytest.raises(DataError, match="a place that can be written"):
        run_set(
            [one for one in instances if one.vnnlib.name == "sat.vnnlib"],
            SetJob(places["results.csv"], places["found"], property_plan, seconds=20),
            lambda key, _: told.append(key),
        )
    assert Key("relu.onnx", "sat.vnnlib") not in told
