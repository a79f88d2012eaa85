"""What runs are called in a legend: as short as they can be told apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from verify_pipeline.certify.tally import Summary
from verify_pipeline.reporting.facts import RunFacts, facts


def run_labels(results: Sequence[Summary], without: Sequence[str] = ()) -> list[str]:
    """A label for each run: its method with α or λ, and what distinguishes it from the others.

    Args:
        results: the runs.
        without: words of :func:`_words` that are not told, such as ``epsilon``.
    """
    known = [facts(result) for result in results]
    words = [_words(each) for each in known]
    names = words[0] if words else ()
    told = [
        name
        for name in names
        if name not in without and (name in _ALWAYS or len({each[name] for each in words}) > 1)
    ]
    # a file's name is long, and says again what the method says
    labels = _with_training(_joined(words, [name for name in told if name != "file"]), known)
    if len(set(labels)) < len(labels):
        labels = _with_training(_joined(words, told), known)
    again = Counter(labels)
    return [
        label if again[label] == 1 else f"{label}, {_digests(result)}"
        for label, result in zip(labels, results, strict=True)
    ]


_ALWAYS = ("method", "parameter")


def _joined(words: Sequence[Mapping[str, str]], told: Sequence[str]) -> list[str]:
    return [", ".join(each[name] for name in told if each[name]) for each in words]


def parameter_text(known: RunFacts) -> str:
    """α or λ of the method; empty: it has none."""
    if known.alpha is not None:
        return f"α = {known.alpha:g}".replace("-", "−")
    return "" if known.sabr_lambda is None else f"λ = {known.sabr_lambda:g}".replace("-", "−")


def _words(known: RunFacts) -> dict[str, str]:
    """What may stand in a label, by name, in order."""
    named = known.method and known.file != known.network
    return {
        "method": known.method or known.file,
        "parameter": parameter_text(known),
        "network": known.network if known.method else "",
        "data": f"{known.data} {known.split}",
        "epsilon": f"ε = {known.box}" if known.epsilon is not None else known.box,
        "asked": known.asked,
        "seed": "" if known.seed is None else f"seed {known.seed}",
        "file": known.file if named else "",
    }


def _with_training(labels: Sequence[str], known: Sequence[RunFacts]) -> list[str]:
    """Equal labels with the settings of the training that tell them apart."""
    longer = list(labels)
    for label, count in Counter(labels).items():
        places = [place for place, each in enumerate(labels) if each == label]
        keys = sorted({key for place in places for key in known[place].training})
        for key in keys if count > 1 else ():
            values = [known[place].training.get(key) for place in places]
            if any(value != values[0] for value in values):
                for place, value in zip(places, values, strict=True):
                    longer[place] += f", {key.rpartition('.')[2]} = {value}"
    return longer


def _digests(result: Summary) -> str:
    run = result.info.run
    return f"network {run.network[:6]}, settings {run.settings[:6]}"
