"""Files appear whole or not at all."""

import errno
from pathlib import Path

import pytest

from verify_pipeline.atomic_write import write_all, write_whole
from verify_pipeline.errors import DataError


@pytest.mark.parametrize("content", ["ε\n", b"\x00\xff"])
def test_writes_and_replaces(content: str | bytes, tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    assert write_whole(path, "before") == path
    write_whole(path, content)
    expected = content.encode() if isinstance(content, str) else content
    assert path.read_bytes() == expected
    assert [each.name for each in path.parent.iterdir()] == ["file"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, not a folder")
    with pytest.raises(DataError, match="can be written"):
        write_whole(tmp_path / "taken" / "file", "x")
    assert [each.name for each in tmp_path.iterdir()] == ["taken"]


def test_nothing_is_left_where_somebody_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("verify_pipeline.atomic_write.os.replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "file", "text")
    assert not list(tmp_path.iterdir())


def test_files_that_belong_together_appear_together_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at the second file."""
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if "b.txt" in path.name:
            write(path, content[:1])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    (tmp_path / "a.txt").write_text("old", encoding="utf-8")
    monkeypatch.setattr(Path, "write_bytes", full)
    contents = {tmp_path / "a.txt": "new", tmp_path / "b.txt": "new"}
    with pytest.raises(DataError, match=r"b\.txt; .*No space left on device"):
        write_all(contents)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "old"
    monkeypatch.undo()
    assert write_all(contents) == tuple(contents)
    assert {path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == {"new"}
