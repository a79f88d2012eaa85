"""Results of the shards of a set as the results of the whole set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from verify_pipeline.errors import ConfigError, DataError
from verify_pipeline.interop.instance_list import Key, SetInstance
from verify_pipeline.interop.sets import REAL, Result, read_results, write_results


def merge_results(
    instances: Sequence[SetInstance], sources: Sequence[Path], path: Path
) -> dict[Key, Result]:
    """Write the results of all instances, in the order of the list.

    Args:
        instances: of the whole set.
        sources: results files, such as ``vnncomp --shard`` writes.
        path: of the new results file.

    Returns:
        The results.

    Raises:
        ConfigError: a file is at ``path`` already.
        DataError: a results file is damaged, two have the same instance, one has an instance that
            the list has not, an instance has no result, or results are about several
            arithmetics; nothing is written then.
    """
    if path.exists():
        raise ConfigError(
            f"--out {path}", expected="a new file", got="one that is there", remedy="Name another."
        )
    wanted = dict.fromkeys(one.key for one in instances)
    found: dict[Key, Result] = {}
    for source in sources:
        own = read_results(source)
        _refuse_foreign(source, [key for key in own if key not in wanted])
        _refuse_twice(source, [key for key in own if key in found])
        found |= own
    _refuse_missing(len(wanted), [key for key in wanted if key not in found])
    results = {key: found[key] for key in wanted}
    _refuse_several({one.arithmetic for one in results.values()})
    write_results(path, results)
    return results


def _refuse_foreign(source: Path, keys: Sequence[Key]) -> None:
    if keys:
        raise DataError(
            f"results file {source}", expected="instances of the list", got=_some(keys, "others")
        )


def _refuse_twice(source: Path, keys: Sequence[Key]) -> None:
    if keys:
        raise DataError(
            f"results file {source}",
            expected="instances that no file before it has",
            got=_some(keys, "that one has"),
            remedy="Shards i/n of one n do not overlap.",
        )


def _refuse_missing(wanted: int, keys: Sequence[Key]) -> None:
    if keys:
        raise DataError(
            "results to merge",
            expected=f"one for each of the list's {wanted} instances",
            got=_some(keys, "without a result"),
            remedy="Name the files of all shards; the command of a stopped shard continues it.",
        )


def _refuse_several(arithmetics: set[str]) -> None:
    if len(arithmetics) > 1:
        names = sorted(one or REAL for one in arithmetics)
        raise DataError(
            "results to merge",
            expected="results about one arithmetic, or about real numbers",
            got=" and ".join(names),
            remedy="Merge the files of `vnncomp --arithmetic` by themselves.",
        )


def _some(keys: Sequence[Key], which: str) -> str:
    return f"{len(keys)} {which}, such as {keys[0].onnx} {keys[0].vnnlib}"
