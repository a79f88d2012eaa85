"""Properties decided: by hand, against dense sampling, and against VNN-COMP's verdicts."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
import torch

from tests.onnx_networks import dense_network, layers_file
from verify_pipeline.certify.contract import Observer
from verify_pipeline.errors import ConfigError, DataError
from verify_pipeline.interop.decide import decide, property_plan
from verify_pipeline.interop.instance_list import Answer, read_instances, read_reference
from verify_pipeline.interop.properties import VnnlibProperty
from verify_pipeline.interop.vnnlib import parse_vnnlib, read_vnnlib
from verify_pipeline.onnx import Network, load_network, network_from_bytes
from verify_pipeline.problem import Reason

PLAN = property_plan(20)
DECLARED = "".join(f"(declare-const X_{i} Real)" for i in range(2)) + "".join(
    f"(declare-const Y_{j} Real)" for j in range(3)
)
BOX = "(assert (and (>= X_0 -1) (<= X_0 1) (>= X_1 -1) (<= X_1 1)))"


def parse(assertions: str, limits: str = BOX) -> VnnlibProperty:
    return parse_vnnlib(DECLARED + limits + assertions)


@pytest.fixture(scope="module")
def identity() -> Network:
    """Y_0 = X_0, Y_1 = X_1, Y_2 = |X_0|."""
    first = [[1, 0], [-1, 0], [0, 1], [0, -1]]
    last = [[1, -1, 0, 0], [0, 0, 1, -1], [1, 1, 0, 0]]
    return network_from_bytes(layers_file(("n", 2), (first,), "Relu", (last,)))


@pytest.fixture(scope="module")
def softmax() -> Network:
    """The softmax of 30 X_0 + 30, 30 X_1 and 0."""
    linear = [[30, 0], [0, 30], [0, 0]], [30, 0, 0]
    return network_from_bytes(layers_file(("n", 2), linear, "Softmax"))


@pytest.mark.parametrize(
    ("assertions", "answer"),
    [
        # compared with each other, without the softmax
        ("(assert (<= Y_0 Y_1))", Answer.SAT),
        ("(assert (<= X_1 0.5)) (assert (>= X_0 -0.4)) (assert (<= Y_0 Y_1))", Answer.UNSAT),
        (
            "(assert (<= X_1 0.5)) (assert (>= X_0 -0.4))"
            "(assert (or (and (<= Y_0 Y_1) (<= Y_0 Y_2)) (<= (* 3 Y_0) (* 3 Y_2))))",
            Answer.UNSAT,
        ),
        # probabilities: at X_1 <= 0 that of Y_1 is at most 1 / 2
        ("(assert (<= X_1 0)) (assert (>= Y_1 0.6))", Answer.UNSAT),
        ("(assert (>= Y_1 0.6))", Answer.SAT),
    ],
)
def test_a_softmax_at_the_end(assertions: str, answer: Answer, softmax: Network) -> None:
    (found,) = decide(softmax, [parse(assertions)], PLAN)
    assert found.answer is answer


@pytest.mark.parametrize(
    ("assertions", "answer"),
    [
        ("(assert (>= Y_0 1.5))", Answer.UNSAT),
        ("(assert (>= Y_0 0.9))", Answer.SAT),
        ("(assert (or (>= Y_0 1.5) (<= Y_2 -0.1)))", Answer.UNSAT),
        ("(assert (or (>= Y_0 1.5) (<= Y_2 0.3)))", Answer.SAT),
        ("(assert (>= Y_0 0.5)) (assert (<= Y_2 0.4))", Answer.UNSAT),
        ("(assert (>= Y_0 0.5)) (assert (<= Y_2 0.6))", Answer.SAT),
        ("(assert (or (and (>= Y_0 0.5) (<= Y_1 -2)) (and (<= Y_0 -2) (<= Y_2 2))))", Answer.UNSAT),
        ("(assert (or (and (>= Y_0 0.5) (<= Y_1 -2)) (and (<= Y_0 0) (<= Y_2 2))))", Answer.SAT),
        ("(assert (or (<= X_0 -0.5) (>= X_0 0.5))) (assert (<= Y_2 0.4))", Answer.UNSAT),
        ("(assert (or (<= X_0 -0.5) (>= X_0 0.3))) (assert (<= Y_2 0.4))", Answer.SAT),
        ("(assert (= Y_2 -1))", Answer.UNSAT),
    ],
)
def test_by_hand(assertions: str, answer: Answer, identity: Network) -> None:
    prop = parse(assertions)
    (found,) = decide(identity, [prop], PLAN)
    assert found.answer is answer
    if answer is Answer.SAT:
        assert found.point is not None
        assert found.output is not None
        x = found.point.unsqueeze(0)
        assert bool(prop.is_counterexample(x, identity.replay(x))[0])
        assert torch.equal(identity.replay(x)[0].double(), found.output)


@pytest.mark.parametrize(
    ("limit", "answer"), [(0.9, Answer.SAT), (0.999999, Answer.SAT), (1.0, Answer.UNKNOWN)]
)
def test_open_limits(limit: float, answer: Answer, identity: Network) -> None:
    """Searches go to the corner, which is not in the box; a step beside it there may be one."""
    open_box = "(assert (and (> X_0 -1) (< X_0 1) (>= X_1 -1) (< X_1 1)))"
    prop = parse(f"(assert (>= Y_0 {limit}))", open_box)
    (found,) = decide(identity, [prop], PLAN)
    assert found.answer is answer
    if found.point is not None:
        assert bool((found.point.double() < 1).all())
        x = found.point.unsqueeze(0)
        assert bool(prop.is_counterexample(x, identity.replay(x))[0])


def test_a_counterexample_of_one_case_ends_the_others(identity: Network) -> None:
    class Stages(Observer):
        def __init__(self) -> None:
            self.seen: list[tuple[str, int]] = []

        def stage_started(self, stage: str, images: int) -> None:
            self.seen.append((stage, images))

    def cases(first: float) -> VnnlibProperty:
        return parse(
            f"(assert (or (and (<= X_0 -0.5) (>= Y_0 {first})) (and (>= X_0 -0.5) (<= Y_2 -1e-4))))"
        )

    open_, ended = Stages(), Stages()
    (unsat,) = decide(identity, [cases(-0.4)], PLAN, observer=open_)
    (sat,) = decide(identity, [cases(-0.9)], PLAN, observer=ended)
    assert (unsat.answer, sat.answer) == (Answer.UNSAT, Answer.SAT)
    assert [stage for stage, _ in open_.seen] == ["clean", "ibp"]
    assert [stage for stage, _ in ended.seen] == ["clean"]


def test_a_tie_is_a_counterexample_unless_the_constraint_is_strict(identity: Network) -> None:
    point = "(assert (and (= X_0 0.5) (= X_1 0.5)))"
    asked = [parse(f"(assert ({sign} Y_0 Y_1))", point) for sign in ("<=", "<")]
    found = decide(identity, asked, PLAN)
    assert [one.answer for one in found] == [Answer.SAT, Answer.UNKNOWN]
    assert found[1].detail == "a counterexample lies on a strict limit"


def test_many_random_properties_against_dense_sampling() -> None:
    generator = torch.Generator().manual_seed(5)
    network = dense_network(5, 2, 8, 3)
    side = torch.linspace(-1, 1, 101)
    grid = torch.cartesian_prod(side, side)
    outputs = network.replay(grid)
    asked = []
    for _ in range(30):
        levels = outputs[torch.randint(len(grid), (4,), generator=generator)].diagonal(0, 0, 1)
        a, b, c = levels.tolist()
        asked += [
            parse(f"(assert (>= Y_0 {a})) (assert (<= Y_1 {b}))"),
            parse(f"(assert (or (and (>= Y_0 {a}) (<= Y_2 {c}) (>= Y_1 {b})) (>= Y_1 {4 * b})))"),
            parse(f"(assert (or (>= Y_0 {2 * a}) (<= Y_2 {c - 1})))"),
        ]
    found = decide(network, asked, PLAN)
    answers = [one.answer for one in found]
    assert set(answers) == {Answer.SAT, Answer.UNSAT}
    for prop, answer in zip(asked, answers, strict=True):
        if answer is Answer.UNSAT:
            assert not prop.is_counterexample(grid, outputs).any()


def test_a_property_of_another_network_is_refused(identity: Network) -> None:
    other = parse_vnnlib(
        "(declare-const X_0 Real) (declare-const Y_0 Real) (assert (= X_0 0)) (assert (<= Y_0 0))"
    )
    with pytest.raises(DataError, match="inputs of property"):
        decide(identity, [other], PLAN)


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan"), float("inf")])
def test_a_timeout_is_a_positive_number(timeout: float) -> None:
    with pytest.raises(ConfigError, match="seconds > 0"):
        property_plan(timeout)


# Of each set: a word in the properties' names, and every how manieth instance. The hard ones are
# left out: here the answers count, not how long they take.
SETS = {
    "2021_test": ("", 1),
    "2022_acasxu": ("prop_4", 12),
    "2022_rl_benchmarks": ("cartpole", 5),
}


@pytest.mark.parametrize("name", SETS)
def test_vnncomps_verdicts(name: str, shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "vnncomp"
    if not (folder / f"vnncomp_{name}.tar.xz").is_file():
        pytest.skip(f"vnncomp_{name}.tar.xz is not there")
    with tarfile.open(folder / f"vnncomp_{name}.tar.xz") as tar:
        tar.extractall(tmp_path, filter="data")
    year, set_name = name.split("_", 1)
    (listed,) = (tmp_path / year / set_name).glob("*instances.csv")
    reference = read_reference(folder / f"{year}__{set_name}.csv")
    word, step = SETS[name]
    chosen = [one for one in read_instances(listed) if word in one.key.vnnlib][::step]
    for path in {one.onnx for one in chosen}:
        instances = [one for one in chosen if one.onnx == path]
        network = load_network(path, check_parity=False)
        found = decide(network, [read_vnnlib(one.vnnlib) for one in instances], property_plan(60))
        answers = [one.answer for one in found]
        assert answers == [reference[one.key].answer for one in instances]


def test_an_unknown_answer_says_why_first(identity: Network) -> None:
    """No float32 number lies between the open limits, so that there is nothing to replay."""
    limits = "(assert (and (> X_0 0.1) (< X_0 0.10000000000000002) (>= X_1 0) (<= X_1 0)))"
    (found,) = decide(identity, [parse("(assert (>= Y_0 0.1))", limits)], PLAN)
    assert found.answer is Answer.UNKNOWN
    why, _, more = found.detail.partition("; ")
    assert why in {reason.value.partition("; ")[0] for reason in Reason}
    assert more


@pytest.mark.parametrize(
    "limits", ["(>= X_0 0.1) (<= X_0 0.1)", "(>= X_0 0.1) (<= X_0 0.100000001)"]
)
def test_an_input_between_float32_numbers_is_the_nearest_one(
    identity: Network, limits: str
) -> None:
    nearest = torch.tensor(0.1)
    assert 0.1 < nearest.item() < 0.1 + 2e-9
    limits = f"(assert (and {limits} (>= X_1 0) (<= X_1 0)))"
    sat, unsat, both = decide(
        identity,
        [
            parse(f"(assert (>= Y_0 {bound}))", limits)
            for bound in ("0.099", "0.101", "0.1000000012")
        ],
        PLAN,
    )
    assert sat.answer is Answer.SAT
    assert sat.point is not None
    assert sat.point.tolist() == [nearest.item(), 0.0]
    assert unsat.answer is Answer.UNSAT
    assert both.answer is Answer.SAT  # a proof is about the number of the file and its rounding


def test_several_conjunctions_over_few_inputs(identity: Network) -> None:
    """Y_0 = X_0 and Y_1 = X_1: regions of the square, of which no corner or all is unsafe."""
    corner = "(and (>= Y_0 {0}) (>= Y_1 {0}))"
    opposite = "(and (<= Y_0 -{0}) (<= Y_1 -{0}) (>= Y_2 {0}))"
    both = "(assert (or " + corner + opposite + "))"
    inside, outside = (parse(both.format(level)) for level in ("0.9", "1.1"))
    sat, unsat = decide(identity, [inside, outside], PLAN)
    assert sat.answer is Answer.SAT
    assert sat.point is not None
    assert bool((sat.point >= 0.9).all() or (sat.point <= -0.9).all())
    assert unsat.answer is Answer.UNSAT


@pytest.mark.parametrize(
    ("limits", "assertions", "answer"),
    [
        # from 0.5 to 0.5 + 2^-24 there is no other float32
        (("(> X_0 0.50000001)", "(< X_0 0.50000002)"), "(>= Y_0 0.4)", Answer.UNKNOWN),
        (("(> X_0 0.5)", "(< X_0 0.50000005960464477539)"), "(>= Y_0 0.6)", Answer.UNSAT),
        (("(> X_0 0.5)", "(<= X_0 0.50000005960464477539)"), "(>= Y_0 0.4)", Answer.SAT),
        # without strict limits the input is rounded, as whoever runs the network does
        (("(>= X_0 0.50000001)", "(<= X_0 0.50000002)"), "(>= Y_0 0.4)", Answer.SAT),
    ],
)
def test_a_box_without_a_float32_input_says_so(
    limits: tuple[str, str], assertions: str, answer: Answer, identity: Network
) -> None:
    """It used to be a timeout; a proof of all its numbers counts nevertheless."""
    box = f"(assert (and {' '.join(limits)} (>= X_1 0) (<= X_1 1)))"
    (found,) = decide(identity, [parse(f"(assert {assertions})", box)], property_plan(2))
    assert found.answer is answer
    if answer is Answer.UNKNOWN:
        assert found.detail == Reason.NO_INPUT.value
