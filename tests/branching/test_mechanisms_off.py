"""Every mechanism of the search can be off: it is not asked then, and verdicts are right."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from time import perf_counter
from types import ModuleType
from typing import Any

import pytest

from tests.branching.searching import (
    NUDGES,
    QUICK,
    by_graph,
    check_against_oracle,
    in_order,
    query_of,
)
from verify_pipeline.bounds import MemoryBudget, OptimiseSettings
from verify_pipeline.branching.config.search_settings import (
    BranchingSettings,
    EarlySplitSettings,
    InputSplitSettings,
    SearchSettings,
)
from verify_pipeline.branching.evaluate import relu_choice
from verify_pipeline.branching.improve import optimise_at_root
from verify_pipeline.branching.limits import cost
from verify_pipeline.branching.search import early_split, input_split, relu_split
from verify_pipeline.branching.search.ways import InputSplitRoom, search, split_inputs
from verify_pipeline.certify.settings import CertifySettings, plan
from verify_pipeline.problem import Decision

NO_STEPS = OptimiseSettings(iterations=0)
BUSY = replace(
    QUICK,
    domain=OptimiseSettings(iterations=1),
    early=EarlySplitSettings(first=1, first_parts=1, late=1),
    branching=BranchingSettings(candidates=1, wider=2),
)
"""Each mechanism of splits of ReLUs is asked on small networks."""

OFF: dict[str, tuple[dict[str, Any], ModuleType, str]] = {
    "early": ({"early": None}, early_split, "optimise_intermediate"),
    "lookahead": (
        {"branching": replace(BUSY.branching, lookahead=None)},
        relu_choice,
        "_looked_ahead",
    ),
    "descent": ({"descent": 0}, relu_split, "descend"),
    "tighten": ({"tighten": NO_STEPS}, optimise_at_root, "optimise_intermediate"),
}
"""By name: settings without it, and the function that it asks."""

ROOM = InputSplitRoom(64, 1 << 28, MemoryBudget())


def decide(case: Any, settings: SearchSettings) -> list[Decision]:
    query = query_of(case)
    replay = by_graph(query.spec, query.graph)
    return in_order(search(query, settings, ROOM, replay, perf_counter), len(case.box))


def counted(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str) -> list[None]:
    """One for each time that the function is asked."""
    honest = getattr(module, name)
    asked: list[None] = []

    def watched(*arguments: Any, **more: Any) -> Any:
        asked.append(None)
        return honest(*arguments, **more)

    monkeypatch.setattr(module, name, watched)
    return asked


@pytest.fixture(params=[("mlp", 2), ("conv", 1)], ids=lambda kind: kind[0])
def case(request: Any, make_case: Any, make_mlp: Any, make_conv: Any) -> Any:
    kind, seed = request.param
    graph = make_mlp(seed, hidden=(6, 8, 8)) if kind == "mlp" else make_conv(seed)
    return make_case(graph, 12, seed, NUDGES)


@pytest.mark.parametrize("mechanism", OFF)
def test_what_is_off_is_not_asked_and_verdicts_are_right(
    mechanism: str, case: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    without, module, name = OFF[mechanism]
    busy = BUSY
    if mechanism == "tighten":
        monkeypatch.setattr(cost, "OF_A_DOMAIN", 1e-3)  # soon
        busy = replace(BUSY, early=None)
    asked = counted(monkeypatch, module, name)
    check_against_oracle(case, decide(case, busy))
    assert asked
    asked.clear()
    check_against_oracle(case, decide(case, replace(busy, **without)))
    assert not asked


def test_verdicts_are_right_where_all_of_them_are_off(case: Any) -> None:
    off = {name: value for without, _, _ in OFF.values() for name, value in without.items()}
    check_against_oracle(case, decide(case, replace(BUSY, box_cutoff=None, **off)))


@pytest.mark.parametrize("descent", [0, 10])
def test_inputs_are_split_with_and_without_descents(
    descent: int, make_case: Any, make_mlp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case(make_mlp(3, 3), 8, 3, (1.0, 0.2, -0.2))
    asked = counted(monkeypatch, input_split, "descend")
    query, inputs = query_of(case), InputSplitSettings(descent=descent, first_descents=1)
    replay = by_graph(query.spec, query.graph)
    found = split_inputs(query, replace(QUICK, inputs=inputs), ROOM, replay, perf_counter)
    check_against_oracle(case, in_order(found, len(case.box)))
    assert asked


SETTINGS = SearchSettings()
ROOM_OR_TIME = ("timeout", "give_up", "max_bytes", "batch")
"""Fields of the search that say how much room or time there is."""


def changed(value: Any) -> list[Any]:
    """Other values of a setting: of an object one for each of its fields, and None."""
    if is_dataclass(value):
        return [
            replace(value, **{field.name: other})  # type: ignore[type-var]
            for field in fields(value)
            for other in changed(getattr(value, field.name))
        ]
    if isinstance(value, str):
        return ["skip" if value == "before" else "fsb"]
    return [1 if value is None else value + 1 if isinstance(value, int) else value / 2 + 0.11]


@pytest.mark.parametrize("name", [field.name for field in fields(SETTINGS)])
def test_a_runs_key_changes_with_every_setting_but_those_of_room_and_time(name: str) -> None:
    def key(search: SearchSettings) -> str:
        return plan(CertifySettings(epsilon=0.1, search=search)).tried

    others = changed(getattr(SETTINGS, name))
    if name in ("box_cutoff", "early"):
        others.append(None)
    keys = {key(replace(SETTINGS, **{name: value})) for value in others}
    if name in ROOM_OR_TIME:
        assert keys == {key(SETTINGS)}
    else:
        assert len(keys - {key(SETTINGS)}) == len(others)
