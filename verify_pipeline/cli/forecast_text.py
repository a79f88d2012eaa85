"""What a certification will cost, in rows for people."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator

from verify_pipeline.planning.certification import CertificationForecast
from verify_pipeline.planning.estimates import WorkersEstimate
from verify_pipeline.planning.sampling import Measured
from verify_pipeline.reporting.certification_state import images_text
from verify_pipeline.reporting.durations import duration
from verify_pipeline.reporting.facts import question_line
from verify_pipeline.reporting.sizes import size_text

WIDTH = 12
"""Columns of the words in front."""

COLUMNS = 100
"""Of a line at most."""

Rows = Iterator[tuple[str, str]]


def lines(rows: Rows) -> Iterator[str]:
    """Each row with its word in front, on several lines where it is long."""
    for word, text in rows:
        first, *others = textwrap.wrap(text, COLUMNS - WIDTH) or [""]
        yield f"{word:<{WIDTH}}{first}".rstrip()
        for rest in others:
            yield f"{'':<{WIDTH}}{rest}"


def forecast_rows(found: CertificationForecast) -> Rows:
    """A row for each subject."""
    yield "network", found.info.network_name
    yield "question", question_line(found.info)
    done = found.asked - found.left
    yield "images", f"{found.asked:,} asked, {done:,} done, {found.left:,} left"
    if found.measured is None:
        yield "time", "nothing is left to do"
        yield from _shares(found)
        return
    yield from _sample(found, found.measured)
    yield from _time(found, found.measured)
    yield from _workers(found)
    yield from _memory(found, found.measured)
    yield from _disk(found)
    yield from _shares(found)


def _sample(found: CertificationForecast, measured: Measured) -> Rows:
    images = images_text(len(measured.images))
    yield "measured", f"{images}, spread evenly, in {duration(measured.seconds)}"
    if measured.open:
        yield (
            "",
            f"{measured.open:,} had no verdict when their time was over and may take up to "
            f"{duration(found.conditions.timeout)} each; a longer --measure narrows the range",
        )
    mean = found.mean
    assert mean is not None
    yield "an image", _with_ends(mean.mean, (mean.low, mean.high), cost_text)
    stages = measured.stages.items()
    if stages:
        each = [f"{name} {cost_text(sum(costs) / len(costs))}" for name, costs in stages]
        yield "by stage", ", ".join(each)


def _time(found: CertificationForecast, measured: Measured) -> Rows:
    alone = found.workers[0].seconds
    images = images_text(found.left)
    limit = duration(found.left * found.conditions.timeout)
    if alone.high is None:
        yield "time", f"{alone.text} for {images}; at most {limit}, if each takes all its seconds"
        yield "", "the sample is too small to say more: give --measure more seconds"
        return
    if found.left == len(measured.images):
        yield "time", f"{alone.text} for {images}; all of them were measured"
        return
    harder = "" if found.unseen is None else ", if none is harder than those measured"
    yield "time", f"{alone.text} for {images} (95 %){harder}"
    yield "", "a full run has larger batches, which may take less for each image"
    if found.unseen is not None:
        share, seconds = found.unseen
        yield (
            "",
            f"harder ones: at most {_percent(share)} of the others (95 %), which add at most "
            f"{duration(seconds)}",
        )


def _workers(found: CertificationForecast) -> Rows:
    conditions = found.conditions
    yield "", ""
    yield "workers", f"{'time':<24}{'busy':>6}   limited by"
    for each in found.workers:
        yield f"{each.workers:>7}", f"{each.seconds.text:<24}{_busy(each):>6}   {each.limit}"
    machine = conditions.machine
    threads = "1 thread" if machine.threads == 1 else f"{machine.threads} threads"
    start = (
        "; how long it takes to start is not known"
        if conditions.start is None
        else f", which takes images after {duration(conditions.start)}"
    )
    yield "", f"A worker is one process with {threads}, as measured{start}."
    yield (
        "",
        f"The rows are for machines like this one; processes of one machine share its "
        f"{machine.cores} cores.",
    )
    yield "", ""


def _memory(found: CertificationForecast, measured: Measured) -> Rows:
    machine, batch = found.conditions.machine, size_text(found.conditions.batch)
    grown = size_text(max(0, measured.peak - measured.held))
    yield (
        "memory",
        f"{size_text(measured.peak)} at most so far, {grown} of it while measuring; the settings "
        f"allow a batch about {batch}",
    )
    if measured.accelerator is not None:
        yield "", f"tensors on the accelerator: {size_text(measured.accelerator)} at most so far"
    if machine.memory is None:
        yield "", "how much this machine has is not known"
        return
    free = "" if machine.free is None else f", {size_text(machine.free)} of it free now"
    as_measured, allowed = machine.fits(measured.peak), machine.fits(found.allowed)
    yield (
        "",
        f"this machine has {size_text(machine.memory)}{free}: processes that fit: {as_measured} "
        f"as measured, {allowed} if each takes what the settings allow",
    )
    if allowed == 0:
        yield (
            "",
            f"with a batch of {batch}, a process needs {size_text(found.allowed)}: it does not "
            "fit; lower memory in the recipe's certify",
        )
    for count in dict.fromkeys((found.conditions.jobs, *(w.workers for w in found.workers))):
        if as_measured is not None and count > as_measured:
            yield (
                "",
                f"{count} workers need {size_text(count * measured.peak)}; this machine has "
                f"{size_text(machine.memory)}: --jobs {as_measured} at most",
            )
            return


def _disk(found: CertificationForecast) -> Rows:
    room = found.conditions.room
    free = "" if room is None else f"; {size_text(room)} free there"
    measured = found.measured
    assert measured is not None
    if not measured.row:
        few = f"{images_text(len(measured.verdicts))} with a verdict: too few to measure its size"
        yield "ledger", f"{few}{free}"
        return
    size = size_text(found.disk)
    yield "ledger", f"about {size} more, {size_text(measured.row)} an image{free}"
    if room is not None and found.disk > room:
        yield "", f"the ledger needs {size}; its folder has {size_text(room)}: it does not fit"


def _shares(found: CertificationForecast) -> Rows:
    for name, share in found.shares.items():
        if share.low == share.high:
            yield name, _percent(share.low)
        else:
            yield name, _with_ends(share.expected, (share.low, share.high), _percent)


def _with_ends(
    mean: float | None, ends: tuple[float, float | None], text: Callable[[float], str]
) -> str:
    """A mean with its interval, or what is known of them."""
    low, high = ends
    if high is None:
        known = "not known" if mean is None else text(mean)
        return f"{known}; too few were measured for an interval"
    interval = f"{text(low)} to {text(high)}"
    return f"{interval} (95 %)" if mean is None else f"{text(mean)} (95 %: {interval})"


def _busy(each: WorkersEstimate) -> str:
    return f"{100 * each.efficiency:.0f} %"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def cost_text(seconds: float) -> str:
    """Seconds of one image or step, which may be few."""
    return duration(seconds) if seconds >= 1 else f"{seconds:.2g} s"
