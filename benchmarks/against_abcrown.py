"""Our cascade against α,β-CROWN: one machine, same files, same instances, same seconds for each.

    python benchmarks/against_abcrown.py images NETWORK --data mnist --epsilon 0.1 \
        --indices 0:1000 --timeout 60 --tuned mnist_conv_small
    python benchmarks/against_abcrown.py list INSTANCES.csv --indices ::4 --timeout 60 --tuned mlp
    python benchmarks/against_abcrown.py table

Each engine does all instances of a task in a process of its own, one engine after the other; which
goes first alternates from task to task. α,β-CROWN gets every instance in its one-process CSV mode,
with its own defaults and with a configuration of abcrown_configs/, and may overrun as it likes.
Ours runs to each deadline, and once more with --give-up.
What an engine gave is kept in --work, so a run that was stopped goes on there. Each run ends with
the table of everything: --out as Markdown, and what was measured as JSON beside it. Where the tool
is not installed, its side is taken from that JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from verify_pipeline import data, onnx
from verify_pipeline._version import __version__
from verify_pipeline.certify.contract import Subject, Task
from verify_pipeline.certify.instances import RobustImages
from verify_pipeline.certify.knowledge import Knowledge
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.perturbations import LinfBall
from verify_pipeline.certify.settings import parse_indices, search_text
from verify_pipeline.engines import AbcrownStage, Answer, Engine, Limits, find_tool
from verify_pipeline.engines.module_file import write_module
from verify_pipeline.engines.sets import questions_of, result_of
from verify_pipeline.engines.stage import MODULES
from verify_pipeline.errors import DependencyError
from verify_pipeline.interop.files import read_network
from verify_pipeline.interop.instances import SetInstance, read_instances
from verify_pipeline.interop.sets import read_results
from verify_pipeline.whole_files import write_whole

ENGINES = ("cascade", "cascade-giving-up", "abcrown-default", "abcrown-tuned")
OURS = ENGINES[:2]
GIVE_UP = "3"
TITLES = {
    "cascade": "verify_pipeline",
    "cascade-giving-up": f"verify_pipeline, --give-up {GIVE_UP}",
    "abcrown-default": "α,β-CROWN, its defaults",
    "abcrown-tuned": "α,β-CROWN, tuned",
}
DEFAULTS = "general: {}\n"
WORDS = {"sat": "falsified", "unsat": "verified", "timeout": "unknown", "unknown": "unknown"}
PATIENT = Limits(overrun=3600.0)


@dataclass(frozen=True)
class Job:
    """A task: images of a data set, or lines of a list (then ``data`` is empty).

    Attributes:
        source: path of the network, or of the list.
        data: the set's name; its test split.
        epsilon: as typed.
        indices: which images or lines.
        timeout: seconds for each.
        tuned: the configuration's name in abcrown_configs/.
        search: our settings' name there; empty: this package's defaults.
        device: ``cpu`` or ``cuda``.
    """

    source: str
    data: str
    epsilon: str
    indices: str
    timeout: float
    tuned: str
    search: str
    device: str

    @property
    def name(self) -> str:
        """What a folder and a table call it."""
        path = Path(self.source)
        about = f"{path.stem}, ε {self.epsilon}" if self.data else " ".join(path.parts[-3:-1])
        ours = f", ours {self.search}" if self.search else ""
        return f"{about}, {self.indices}, {self.timeout:g} s, tuned {self.tuned}{ours}"


@dataclass(frozen=True)
class Measured:
    """What an engine did of a task.

    Attributes:
        engine: of :data:`ENGINES`.
        version: of the engine.
        wall: seconds from the start of its process to its last answer.
        cpu: processor seconds of its processes.
        peak_mib: greatest resident memory of one of them.
        load: processes that wanted to run as it began, the last minute's mean.
        domains: that were searched, where it is known; and in how many seconds.
        searched: seconds of the instances with domains.
        answers: by instance: verified, falsified or unknown, and seconds.
    """

    engine: str
    version: str
    wall: float
    cpu: float
    peak_mib: float
    load: float
    domains: int
    searched: float
    answers: dict[str, tuple[str, float]]

    def count(self, word: str) -> int:
        """Answers of that kind."""
        return sum(answer == word for answer, _ in self.answers.values())

    @property
    def decided(self) -> int:
        """Answers that decide."""
        return len(self.answers) - self.count("unknown")


def ours(job: Job, work: Path, giving_up: bool) -> Iterator[tuple[str, str, float, int]]:
    """The cascade, by the command line; instance, answer, seconds and domains."""
    command = [sys.executable, "-m", "verify_pipeline"]
    rest = ["--timeout", f"{job.timeout:g}", "--device", job.device]
    rest += ["--search", job.search] if job.search else []
    rest += ["--give-up", GIVE_UP] if giving_up else []
    if job.data:
        ledger = work / "ledger.sqlite"
        command += ["certify", job.source, "--data", job.data, "--epsilon", job.epsilon]
        command += ["--indices", job.indices, "--ledger", str(ledger), *rest]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        with Ledger.existing(ledger) as book:
            (info,) = book.runs()
            for record in book.records(info.run):
                found = re.search(r"(\d+) domains", record.detail)
                domains = 0 if found is None else int(found[1])
                yield str(record.index), record.status.value, record.seconds, domains
        return
    chosen = listed(job)
    rows = work / "instances.csv"
    with rows.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            (one.onnx.absolute(), one.vnnlib.absolute(), job.timeout) for one in chosen
        )
    results = work / "results.csv"
    command += ["vnncomp", str(rows), "--out", str(results), *rest]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = read_results(results)  # in the order in which they fell
    for one, row in zip(chosen, read_instances(rows), strict=True):
        result = found[row.key]
        yield name_of(one), WORDS[result.answer.value], result.seconds, 0


def theirs(job: Job, work: Path, config: str) -> Iterator[tuple[str, str, float, int]]:
    """α,β-CROWN, in one process; instance, answer, seconds and domains."""
    engine = Counting(find_tool(), config, work, PATIENT, device=job.device)
    if not job.data:
        chosen = listed(job)
        for answer in engine.ask(questions_of(chosen, job.timeout, work)):
            one = chosen[answer.place]
            result, _ = result_of(one, answer, read_network)
            yield name_of(one), WORDS[result.answer.value], answer.seconds, answer.domains or 0
        return
    network = onnx.load_network(job.source)
    images = data.load(job.data, "test")
    indices = parse_indices(job.indices, len(images))
    batch = RobustImages(images, indices, LinfBall(float(Fraction(job.epsilon)))).batch(indices)
    cpu = torch.device("cpu")
    task = Task(
        tuple(indices),
        batch.box,
        batch.spec,
        batch.points,
        torch.full((len(indices),), job.timeout, dtype=torch.float64),
        Knowledge(1 << 20, cpu),
        has_time=lambda: True,
    )
    module = write_module(network.graph, work / MODULES)
    subject = Subject.of(network.graph, network.replay, cpu)
    stage = AbcrownStage(subject, Path(job.source), engine, module)
    for decision in stage.run(task):
        index = indices[decision.place]
        domains = engine.domains.get(decision.place, 0)
        yield str(index), decision.status.value, decision.seconds or 0.0, domains


class Counting(Engine):
    """Notes the domains that each question took."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.domains: dict[int, int] = {}

    def ask(self, questions: Any) -> Iterator[Answer]:
        """As the engine answers."""
        for answer in super().ask(questions):
            self.domains[answer.place] = answer.domains or 0
            yield answer


def listed(job: Job) -> list[SetInstance]:
    """The lines of the list that are asked for."""
    instances = read_instances(Path(job.source))
    return [instances[place] for place in parse_indices(job.indices, len(instances))]


def name_of(instance: SetInstance) -> str:
    """The instance's files."""
    return f"{instance.key.onnx} {instance.key.vnnlib}"


def measure(job: Job, engine: str, out: Path) -> None:
    """Let an engine do a task, and write what it did; this process starts nothing else."""
    load, start = os.getloadavg()[0], time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) if engine in OURS else out.with_suffix("")
        if engine in OURS:
            found = list(ours(job, work, engine == "cascade-giving-up"))
            wall, version = time.perf_counter() - start, __version__
        else:
            tuned = engine == "abcrown-tuned"
            config = search_text(job.tuned) if tuned else DEFAULTS
            found = list(theirs(job, work, config))
            wall, version = sum(seconds for _, _, seconds, _ in found), find_tool().version
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    measured = Measured(
        engine,
        version,
        wall,
        used.ru_utime + used.ru_stime,
        used.ru_maxrss / 1024,
        load,
        sum(domains for *_, domains in found),
        sum(seconds for *_, seconds, domains in found if domains),
        {name: (answer, seconds) for name, answer, seconds, _ in found},
    )
    write_whole(out, json.dumps(asdict(measured), indent=1))


def run(job: Job, work: Path, chosen: list[str]) -> None:
    """Every engine of those chosen that is there and has not done the task yet."""
    folder = work / re.sub(r"[^\w.]+", "-", job.name)
    first = sum(path.is_dir() for path in work.glob("*")) if not folder.exists() else 0
    write_whole(folder / "job.json", json.dumps(asdict(job), indent=1))
    engines = [*ENGINES[2:], *OURS] if first % 2 else list(ENGINES)
    try:
        find_tool()
    except DependencyError as error:
        print(f"{error}\nOnly our side is run.", file=sys.stderr)
        engines = list(OURS)
    for engine in (engine for engine in engines if engine in chosen):
        out = folder / f"{engine}.json"
        if not out.exists():
            print(f"{job.name}: {engine} …", file=sys.stderr)
            command = [sys.executable, __file__, "_measure", str(folder / "job.json"), engine]
            subprocess.run([*command, str(out)], check=True)


def collect(work: Path, recorded: Path) -> dict[str, dict[str, Measured]]:
    """By task, by engine: what is in the working folder, and for the rest what was recorded."""
    found: dict[str, dict[str, Any]] = {}
    if recorded.exists():
        found = json.loads(recorded.read_text("utf-8"))
    for path in sorted(work.glob("*/job.json"), key=lambda path: path.stat().st_mtime):
        name = Job(**json.loads(path.read_text("utf-8"))).name
        for engine in ENGINES:
            result = path.with_name(f"{engine}.json")
            if result.exists():
                found.setdefault(name, {})[engine] = json.loads(result.read_text("utf-8"))
    return {
        task: {engine: Measured(**by[engine]) for engine in ENGINES if engine in by}
        for task, by in found.items()
    }


def contradictions(by_engine: dict[str, Measured]) -> list[str]:
    """Instances that one engine verifies and another falsifies."""
    said: dict[str, set[str]] = {}
    for measured in by_engine.values():
        for name, (answer, _) in measured.answers.items():
            said.setdefault(name, set()).add(answer)
    return [name for name, answers in said.items() if {"verified", "falsified"} <= answers]


def ratio(own: Measured | None, its: Measured, what: str) -> str:
    """Our seconds by theirs, ``wall`` or ``cpu``."""
    return "–" if own is None else f"{asdict(own)[what] / asdict(its)[what]:.3f}"


def page(found: dict[str, dict[str, Measured]], commands: list[str]) -> str:
    """The table as Markdown."""
    heads = "Task|Engine|Instances|Decided|Verified|Falsified|Wall s|CPU s|s per decided|Domains/s"
    heads += "|Peak MiB|Our wall ÷ its|Giving up ÷ its|Our CPU ÷ its|Load"
    lines = [f"| {heads.replace('|', ' | ')} |", "|---|---|" + "---:|" * (heads.count("|") - 1)]
    for task, by_engine in found.items():
        for engine, one in by_engine.items():
            rate = f"{one.domains / one.searched:.0f}" if one.searched else "–"
            ratios = ["–"] * 3
            if engine not in OURS:
                walls = [ratio(by_engine.get(own), one, "wall") for own in OURS]
                ratios = [*walls, ratio(by_engine.get("cascade"), one, "cpu")]
            cells = [
                task,
                f"{TITLES[engine]} ({one.version})",
                *(len(one.answers), one.decided, one.count("verified"), one.count("falsified")),
                *(f"{one.wall:.1f}", f"{one.cpu:.1f}", f"{one.wall / max(one.decided, 1):.2f}"),
                *(rate, f"{one.peak_mib:.0f}", *ratios, f"{one.load:.1f}"),
            ]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    wrong = [f"{task}: {name}" for task, by in found.items() for name in contradictions(by)]
    return "\n".join(
        [
            "# Our cascade against α,β-CROWN",
            "",
            *lines,
            "",
            f"Contradictions: {'; '.join(wrong) or 'none'}. Every falsified instance was replayed "
            "in onnxruntime; what α,β-CROWN verifies rests on its word.",
            "",
            "Wall and processor (CPU) seconds count each engine's whole process, its start "
            "included; *load* is the number of processes that wanted the machine as it began. "
            f"{os.cpu_count()} cores, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', '-')}.",
            "",
            *(f"* `{command}`" for command in commands),
            "",
        ]
    )


def command_of(job: Job) -> str:
    """What ran a task."""
    kind = "images" if job.data else "list"
    parts = ["python", "benchmarks/against_abcrown.py", kind, job.source]
    parts += ["--data", job.data, "--epsilon", job.epsilon] if job.data else []
    parts += ["--indices", job.indices, "--timeout", f"{job.timeout:g}", "--tuned", job.tuned]
    parts += ["--search", job.search] if job.search else []
    parts += ["--device", job.device] if job.device != "cpu" else []
    return shlex.join(parts)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("kind", choices=("images", "list", "table", "_measure"))
    parser.add_argument("source", nargs="?", default="")
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--epsilon", default="0.1")
    parser.add_argument("--indices", default=":")
    parser.add_argument("--timeout", type=float, default=60.0)
    parser.add_argument("--tuned", default="default")
    parser.add_argument("--search", default="")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--work", type=Path, default=Path("runs/against_abcrown"))
    parser.add_argument("--out", type=Path, default=Path("results/against_abcrown.md"))
    return parser.parse_args()


def main() -> None:
    """Measure one task, or tabulate."""
    asked = arguments()
    if asked.kind == "_measure":
        job = Job(**json.loads(Path(asked.source).read_text("utf-8")))
        measure(job, asked.rest[0], Path(asked.rest[1]))
        return
    if asked.kind != "table":
        job = Job(
            asked.source,
            asked.data if asked.kind == "images" else "",
            asked.epsilon,
            asked.indices,
            asked.timeout,
            asked.tuned,
            asked.search,
            asked.device,
        )
        run(job, asked.work, asked.engines.split(","))
    recorded = asked.out.with_suffix(".json")
    found = collect(asked.work, recorded)
    jobs = [json.loads(path.read_text("utf-8")) for path in sorted(asked.work.glob("*/job.json"))]
    text = page(found, [command_of(Job(**job)) for job in jobs])
    write_whole(asked.out, text)
    kept = {task: {e: asdict(m) for e, m in by.items()} for task, by in found.items()}
    write_whole(recorded, json.dumps(kept, indent=1))
    print(text)


if __name__ == "__main__":
    main()
