"""Shards of a set, and their ledgers as one."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.certify.test_local_workers import SETTINGS, network, pixels
from tests.cli.typed import command
from verify_pipeline import api
from verify_pipeline.certify.merging import merge_ledgers
from verify_pipeline.certify.shards import Shard
from verify_pipeline.errors import ConfigError, LedgerError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network, images, and ledgers of both shards and of all images."""
    place = tmp_path_factory.mktemp("shards")
    api.export_onnx(network(), place / "net.onnx", input_shape=(1, 4, 4))
    np.save(place / "x.npy", pixels()[:30].numpy())
    np.save(place / "y.npy", network()(pixels()[:30]).argmax(1).numpy())
    for more in (("--shard", "1/2"), ("--shard", "2/2"), ("--ledger", place / "all.sqlite")):
        typed = ("certify", place / "net.onnx", "--epsilon", "0.05", *more)
        own = ("--images", place / "x.npy", "--labels", place / "y.npy")
        code, _, error = command(*typed, *own)
        assert code == 0, error
    return place


def shards(folder: Path) -> list[Path]:
    return [folder / f"ledger-{number}-of-2.sqlite" for number in (1, 2)]


def test_merged_shards_are_the_whole_set(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "merged.sqlite"
    code, told, error = command("ledger", "merge", *shards(folder), "--out", out)
    assert code == 0, error
    assert told == f"wrote {out}: 30 verdicts of 1 run\n"
    (merged,) = api.read_ledgers([out])
    (whole,) = api.read_ledgers([folder / "all.sqlite"])
    assert merged.info == whole.info
    assert merged.asked == whole.asked
    assert [(r.index, r.instance, r.status) for r in merged.records] == [
        (r.index, r.instance, r.status) for r in whole.records
    ]
    parts = [record for path in shards(folder) for record in api.read_ledgers([path])[0].records]
    assert sorted(parts, key=lambda record: record.index) == list(merged.records)
    code, told, error = command(
        *("recheck", folder / "net.onnx", "--ledger", out),
        *("--images", folder / "x.npy", "--labels", folder / "y.npy"),
    )
    assert code == 0, error
    assert sorted(tmp_path.iterdir()) == [out]


def test_a_shard_that_is_missing_is_noticed(folder: Path, tmp_path: Path) -> None:
    own = ("--images", folder / "x.npy", "--labels", folder / "y.npy", "--epsilon", "0.05")
    paths = [tmp_path / f"{number}.sqlite" for number in (1, 2, 3)]
    for number, path in enumerate(paths, 1):
        typed = ("certify", folder / "net.onnx", *own, "--indices", "0:9", "--ledger", path)
        assert command(*typed, "--shard", f"{number}/3")[0] == 0
    some = (paths[0], paths[2], "--out", tmp_path / "two.sqlite")
    code, told, error = command("ledger", "merge", *some)
    assert (code, told) == (0, f"wrote {tmp_path / 'two.sqlite'}: 6 verdicts of 1 run\n")
    said = " ".join(error.split())
    assert "note: 3 images between the first and the last one are in none" in said
    assert "such as image 1 (x arrays, ε = 0.05)" in said
    code, _, error = command("ledger", "merge", *paths, "--out", tmp_path / "all.sqlite")
    assert (code, error) == (0, "")


def test_shards_are_alike_and_cover_the_set() -> None:
    parts = [Shard(number, 3).of_indices(range(10)) for number in (1, 2, 3)]
    assert [list(part) for part in parts] == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]]
    assert Shard(3, 12).suffix == "-03-of-12"
    assert Shard.parse("2/8") == Shard(2, 8)


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0", "-1/4", "1/4/2", ""])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--shard; expected i/n"):
        Shard.parse(text)


def test_more_shards_than_images_are_refused() -> None:
    with pytest.raises(ConfigError, match="at most 3 shards"):
        Shard(1, 4).of_indices(range(3))


def test_ledgers_that_do_not_fit_together_are_refused(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "merged.sqlite"
    first, second = shards(folder)
    other = tmp_path / "other.sqlite"
    images = api.ImageSet("own", "test", pixels()[:4], torch.tensor([0, 1, 2, 0]), 3)
    with torch.no_grad():
        changed = network()
        next(changed.parameters()).mul_(2)
    api.certify(changed, images, SETTINGS, ledger=other)
    with pytest.raises(LedgerError, match="Merge the ledgers of one network"):
        merge_ledgers([first, other], out)
    for wrong in ([first], [first, first], []):
        with pytest.raises(ConfigError, match="at least two, each once"):
            merge_ledgers(wrong, out)
    with pytest.raises(LedgerError, match="expected a file; got none"):
        merge_ledgers([first, tmp_path / "none.sqlite"], out)
    with pytest.raises(ConfigError, match="expected a new file"):
        merge_ledgers([first, second], other)
    assert sorted(tmp_path.iterdir()) == [other]


def test_a_row_without_its_evidence_is_not_merged(folder: Path, tmp_path: Path) -> None:
    first, second = shards(folder)
    edited = tmp_path / "edited.sqlite"
    edited.write_bytes(second.read_bytes())
    with sqlite3.connect(edited) as connection:
        connection.execute("UPDATE verdicts SET verdict = 'verified', bound = -1 WHERE image = 1")
    connection.close()
    with pytest.raises(LedgerError, match="run 1, image 1"):
        merge_ledgers([first, edited], tmp_path / "merged.sqlite")
    assert sorted(tmp_path.iterdir()) == [edited]


def test_several_questions_stay_several_runs(folder: Path, tmp_path: Path) -> None:
    loaded = api.load_network(folder / "net.onnx")
    images = api.ImageSet("own", "test", pixels()[:6], network()(pixels()[:6]).argmax(1), 3)
    paths = [tmp_path / "a.sqlite", tmp_path / "b.sqlite"]
    for path, indices in zip(paths, ("0:3", "3:6"), strict=True):
        for epsilon in (0.02, 0.05):
            settings = replace(SETTINGS, epsilon=epsilon, indices=indices)
            api.certify(loaded, images, settings, ledger=path)
    merged = merge_ledgers(paths, tmp_path / "merged.sqlite")
    assert (len(merged.infos), merged.verdicts) == (2, 12)
    found = api.read_ledgers([merged.path])
    assert [summary.tally.images for summary in found] == [6, 6]


def changed(source: Path, path: Path, *changes: str) -> Path:
    """A copy of a ledger that somebody edited."""
    path.write_bytes(source.read_bytes())
    connection = sqlite3.connect(path)
    for change in changes:
        connection.execute(change)
    connection.commit()
    connection.close()
    return path


OPENED = (
    "UPDATE verdicts SET verdict = 'unknown', reason = 'TIMEOUT', input = NULL, output = NULL,"
    " input_shape = NULL, margin = NULL, stage = 'crown'"
)


def test_what_several_ledgers_have_is_kept_once_and_told(folder: Path, tmp_path: Path) -> None:
    whole, out = folder / "all.sqlite", tmp_path / "c.sqlite"
    code, told, error = command("ledger", "merge", shards(folder)[0], whole, "--out", out)
    assert (code, told) == (0, f"wrote {out}: 30 verdicts of 1 run\n")
    assert "note: 15 verdicts are in several of these ledgers and agree. The first" in error
    first = api.read_ledgers([shards(folder)[0]])[0].records
    kept = {record.index: record for record in api.read_ledgers([out])[0].records}
    assert all(kept[record.index] == record for record in first)  # also their seconds


def test_a_decided_row_completes_an_unknown_one(folder: Path, tmp_path: Path) -> None:
    whole = folder / "all.sqlite"
    few = changed(whole, tmp_path / "a.sqlite", f"{OPENED} WHERE image < 4")
    for place, sources in enumerate(([few, whole], [whole, few])):
        merged = merge_ledgers(sources, tmp_path / f"c{place}.sqlite")
        assert (merged.verdicts, merged.repeated) == (30, 30)
        assert merged.completed == (4 if place == 0 else 0)
        assert [r.status for r in api.read_ledgers([merged.path])[0].records] == [
            r.status for r in api.read_ledgers([whole])[0].records
        ]


VERIFIED = (
    "UPDATE verdicts SET verdict = 'verified', reason = NULL, bound = 1, input = NULL,"
    " output = NULL, input_shape = NULL, margin = NULL, stage = 'crown' WHERE image = {}"
)


def test_opposite_verdicts_and_other_pixels_are_refused(folder: Path, tmp_path: Path) -> None:
    whole, out = folder / "all.sqlite", tmp_path / "c.sqlite"
    (summary,) = api.read_ledgers([whole])
    broken = next(r.index for r in summary.records if r.status is api.Status.FALSIFIED)
    edited = changed(whole, tmp_path / "a.sqlite", VERIFIED.format(broken))
    said = f"image {broken} .* is falsified in .*all.sqlite and verified in .*a.sqlite"
    with pytest.raises(LedgerError, match=said):
        merge_ledgers([whole, edited], out)
    other = changed(
        whole, tmp_path / "b.sqlite", f"UPDATE verdicts SET instance = '{'0' * 32}' WHERE image = 7"
    )
    with pytest.raises(LedgerError, match=r"image 7; expected the pixels and the class"):
        merge_ledgers([whole, other], out)
    assert not out.exists()
    code, told, error = command("ledger", "check", whole, edited)
    assert code == 2
    assert f"{whole}: whole; 1 run, 30 verdicts with evidence, 0 images without" in told
    assert f"{edited}: 1 problem; 1 run" in told
    assert f"image {broken} (x arrays, linf 0.05) is falsified in {whole}" in error


def test_a_whole_ledger_is_told_to_be_one(folder: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    code, told, error = command("ledger", "check", *shards(folder), folder / "all.sqlite")
    assert (code, error) == (0, "")
    assert told.count(": whole; 1 run, ") == 3
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE verdicts SET bound = -1 WHERE verdict = 'verified'", "a finite bound > 0"),
        ("UPDATE runs SET asked = '0:10'", "images that it was not asked for"),
        ("UPDATE runs SET asked = 'all'", "no places of images"),
        ("UPDATE runs SET network = 'x'", "a network's SHA-256"),
        ("UPDATE verdicts SET run = 7 WHERE image = 3", "1 verdicts of a run that is not in"),
        ("PRAGMA user_version = 99", "a schema version up to 3; got 99"),
    ],
)
def test_what_is_wrong_with_a_ledger_is_told(
    folder: Path, tmp_path: Path, change: str, said: str
) -> None:
    edited = changed(folder / "all.sqlite", tmp_path / "a.sqlite", change)
    code, told, error = command("ledger", "check", edited, folder / "all.sqlite")
    assert code == 2
    assert said in error
    assert f"{folder / 'all.sqlite'}: whole" in told


def test_damage_and_foreign_files_are_told_and_the_others_checked(
    folder: Path, tmp_path: Path
) -> None:
    content = (folder / "all.sqlite").read_bytes()
    (tmp_path / "half.sqlite").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.sqlite").write_text("no ledger" * 100)
    files = [tmp_path / "half.sqlite", tmp_path / "text.sqlite", tmp_path / "none.sqlite"]
    code, told, error = command("ledger", "check", *files, folder / "all.sqlite")
    assert code == 2
    assert told.count("1 problem; 0 runs") == 3
    assert error.count("an undamaged ledger") == 2
    assert "expected a file; got none" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half.sqlite", "text.sqlite"]
