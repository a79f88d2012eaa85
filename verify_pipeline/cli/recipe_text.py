"""What a recipe will cost, in rows for people."""

from __future__ import annotations

from verify_pipeline.certify.job_plan import LEAST_SAMPLE
from verify_pipeline.certify.settings import plan
from verify_pipeline.cli.forecast_text import Rows, cost_text, forecast_rows
from verify_pipeline.planning.recipe import RecipeForecast, steps_seconds
from verify_pipeline.reporting.certification_state import images_text
from verify_pipeline.reporting.durations import duration
from verify_pipeline.reporting.sizes import size_text
from verify_pipeline.training.stopwatch import PhaseSteps


def recipe_rows(found: RecipeForecast) -> Rows:
    """A row for each subject, the training first."""
    settings = found.recipe.train
    an_epoch = found.steps[0].an_epoch
    yield "recipe", found.recipe.name
    yield (
        "training",
        f"{images_text(found.images)} of {settings.data.full_name}, "
        f"{settings.optimiser.epochs} epochs of {an_epoch:,} steps",
    )
    for each in found.steps:
        yield each.phase.name, _phase(each)
    yield "time", f"{found.seconds.text} for the training by one process"
    if any(len(each.seconds) < LEAST_SAMPLE for each in found.steps):
        yield "", f"fewer than {LEAST_SAMPLE} steps of some phase were measured: no 95 % interval"
    if found.not_counted:
        yield "", f"not counted: {', '.join(found.not_counted)}"
    processes = [
        f"{count}: {cost_text(seconds)}" for count, seconds in found.processes.items() if count > 1
    ]
    yield (
        "torchrun",
        f"at best the least time, divided by processes like this one; {', '.join(processes)}",
    )
    yield from _memory(found)
    yield from _disk(found)
    yield from _certification(found)


def _phase(each: PhaseSteps) -> str:
    epochs = "1 epoch" if each.phase.epochs == 1 else f"{each.phase.epochs} epochs"
    mean = sum(each.seconds) / len(each.seconds)
    ends = f"{cost_text(min(each.seconds))} to {cost_text(max(each.seconds))}"
    measured = "one measured" if len(each.seconds) == 1 else f"{len(each.seconds)} measured, {ends}"
    return (
        f"{epochs}: {steps_seconds(each).text}; {cost_text(mean)} a step ({measured}), "
        f"{cost_text(mean * each.an_epoch)} an epoch"
    )


def _memory(found: RecipeForecast) -> Rows:
    machine = found.machine
    yield "memory", f"{size_text(found.memory)} at most so far"
    if found.accelerator is not None:
        yield "", f"tensors on the accelerator: {size_text(found.accelerator)} at most so far"
    if machine.memory is not None:
        free = "" if machine.free is None else f", {size_text(machine.free)} of it free now"
        fit = machine.fits(found.memory)
        yield "", f"this machine has {size_text(machine.memory)}{free}: {fit} such processes fit"


def _disk(found: RecipeForecast) -> Rows:
    sizes = found.sizes
    yield (
        "disk",
        f"checkpoint {size_text(sizes.checkpoint)}, twice while it is replaced; ONNX file about "
        f"{size_text(sizes.network)}",
    )
    yield (
        "",
        f"ledger of {images_text(found.test_images)} {size_text(sizes.ledger_low)}, or "
        f"{size_text(sizes.ledger_high)} with a counterexample of each",
    )


def _certification(found: RecipeForecast) -> Rows:
    timeout = plan(found.recipe.certify).timeout
    yield (
        "certify",
        f"at most {duration(found.certification_limit)} by one process: "
        f"{images_text(found.test_images)}, each at most {duration(timeout)}",
    )
    if found.like is None:
        yield (
            "",
            "What it takes depends on the trained network, which is not there yet. A network of "
            "this recipe, also an unfinished one, can be measured with --like.",
        )
        return
    state = "" if found.epochs is None else f", after {found.epochs} epochs"
    yield "", f"A network like the one to come{state}:"
    yield "", ""
    yield from forecast_rows(found.like)
