"""The table, and what has to be known to read it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from against.measured import Found, Measured
from against.measuring import GIVE_UP
from against.tasks import ENGINES, OURS

TITLES = {
    "cascade": "verify_pipeline",
    "cascade-giving-up": f"verify_pipeline, --give-up {GIVE_UP}",
    "abcrown-default": "α,β-CROWN, its defaults",
    "abcrown-tuned": "α,β-CROWN, tuned",
}
LEFT, RIGHT = (
    "Task|Engine",
    (
        "Instances|Decided|Verified|Falsified|Wall s|CPU s|s per decided|Domains/s|Peak MiB"
        "|Our wall ÷ its|Giving up ÷ its|Our CPU ÷ its|Load|Began (UTC)|Commit"
    ),
)


def page(found: Found, commands: Sequence[str]) -> str:
    """Everything as Markdown; the commands are what was run."""
    wrong = [f"{task}: {name}" for task, by in found.items() for name in contradictions(by)]
    return "\n".join(
        [
            "# Our cascade against α,β-CROWN",
            "",
            *_table(found),
            "",
            f"{of_one_run(found)} {_not_measured(found)}",
            "",
            f"Contradictions: {'; '.join(wrong) or 'none'}. Every falsified instance was replayed "
            "in onnxruntime; what α,β-CROWN verifies rests on its word.",
            "",
            "Wall and processor (CPU) seconds count each engine's whole process, its start "
            "included. *s per decided*: all wall seconds by the instances decided. *Domains/s*: of "
            "instances that were searched; –: not known. *Peak*: of one process. *Giving up*: ours "
            "with --give-up. *Load*: processes that wanted the machine as it began. "
            f"{_cores(found)}",
            "",
            *(f"* `{command}`" for command in commands),
            "",
        ]
    )


def of_one_run(found: Found) -> str:
    """Whether all rows come from one run without a stop, when, at which commits, and the load."""
    rows = [one for by_engine in found.values() for one in by_engine.values()]
    runs = Counter(one.run for one in rows)
    if len(runs) != 1 or "" in runs:
        told = ", ".join(
            f"{count} of {f'the run of {_second(run)}' if run else 'runs before times were kept'}"
            for run, count in sorted(runs.items())
        )
        return f"The rows are not of one run: {told or 'there are none'}."
    loads = [one.load for one in rows]
    commits = " and ".join(sorted({one.commit or "not known" for one in rows}))
    return (
        f"All {len(rows)} rows are of one run without a stop, "
        f"{_second(min(one.run for one in rows))} to {_second(max(one.ended for one in rows))} "
        f"UTC; load {min(loads):.1f} to {max(loads):.1f}; commit {commits}. "
        + ("From task to task it alternates which side goes first." if len(found) > 1 else "")
    )


def contradictions(by_engine: dict[str, Measured]) -> list[str]:
    """Instances that one engine verifies and another falsifies."""
    said: dict[str, set[str]] = {}
    for measured in by_engine.values():
        for name, (answer, _) in measured.answers.items():
            said.setdefault(name, set()).add(answer)
    return [name for name, answers in said.items() if {"verified", "falsified"} <= answers]


def _table(found: Found) -> list[str]:
    heads = f"{LEFT}|{RIGHT}".replace("|", " | ")
    lines = [f"| {heads} |", "|---|---|" + "---:|" * (RIGHT.count("|") + 1)]
    for task, by_engine in found.items():
        for one in by_engine.values():
            lines.append(f"| {' | '.join(map(str, _cells(task, one, by_engine)))} |")
    return lines


def _cells(task: str, one: Measured, by_engine: dict[str, Measured]) -> list[object]:
    """A row; where it is of α,β-CROWN, with our seconds by its."""
    ratios = ["–"] * 3
    if one.engine not in OURS:
        ours = [by_engine.get(engine) for engine in OURS]
        walls = ["–" if own is None else f"{own.wall / one.wall:.3f}" for own in ours]
        ratios = [*walls, "–" if ours[0] is None else f"{ours[0].cpu / one.cpu:.3f}"]
    return [
        task,
        f"{TITLES[one.engine]} ({one.version})",
        *(len(one.answers), one.decided, one.count("verified"), one.count("falsified")),
        *(f"{one.wall:.1f}", f"{one.cpu:.1f}", f"{one.wall / max(one.decided, 1):.2f}"),
        f"{one.domains / one.searched:.0f}" if one.searched else "–",
        f"{one.peak_mib:.0f}",
        *ratios,
        f"{one.load:.1f}",
        _second(one.began)[5:] or "–",
        one.commit or "–",
    ]


def _not_measured(found: Found) -> str:
    missing = Counter(engine for by in found.values() for engine in ENGINES if engine not in by)
    told = "; ".join(
        f"{TITLES[engine]}, in {count} of {len(found)} tasks" for engine, count in missing.items()
    )
    return f"Not measured: {told}." if told else "Every engine did every task."


def _cores(found: Found) -> str:
    """How many cores engines might use."""
    counts = sorted({one.cores for by_engine in found.values() for one in by_engine.values()})
    told = " or ".join(f"{count}" if count else "a number not kept" for count in counts)
    return f"Cores: {told or 'none'}."


def _second(moment: str) -> str:
    """``2026-11-23T03:30:05+00:00`` as ``2026-11-23 03:30:05``; empty stays empty."""
    return moment[:19].replace("T", " ")
