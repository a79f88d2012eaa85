"""Finding files, downloading them, refusing damaged ones."""

import functools
import hashlib
import io
import logging
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pooch
import pytest

from verify_pipeline.data.files import ROOT_VARIABLE, Remote, Store, check_md5, open_store
from verify_pipeline.errors import DataError

CONTENT = b"as published"
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server on this machine that publishes one file, ``set.gz``."""
    published = tmp_path / "published"
    published.mkdir()
    (published / "set.gz").write_bytes(CONTENT)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = functools.partial(Quiet, directory=str(published))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/set.gz"
        server.shutdown()
        thread.join()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    root = tmp_path / "root"
    root.mkdir()
    return Store(root, tmp_path / "cache")


def files_under(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_missing_file_is_downloaded_once(store: Store, address: str, tmp_path: Path) -> None:
    remote = Remote(address, MD5)
    path = store.obtain("set", ("sub",), ("set", "set.gz"), remote)
    assert path == tmp_path / "cache" / "sub" / "set.gz"
    assert path.read_bytes() == CONTENT
    (tmp_path / "published" / "set.gz").unlink()
    assert store.obtain("set", ("sub",), ("set", "set.gz"), remote) == path


def test_a_wrong_checksum_leaves_nothing(store: Store, address: str) -> None:
    wrong = "0" * 32
    with pytest.raises(DataError) as caught:
        store.obtain("set", ("sub",), ("set.gz",), Remote(address, wrong))
    for part in (address, wrong, MD5, "--data-root"):
        assert part in str(caught.value)
    assert files_under(store.cache) == []


def test_a_file_that_is_not_published_leaves_nothing(store: Store, address: str) -> None:
    with pytest.raises(DataError, match="404"):
        store.obtain("set", ("sub",), ("none.gz",), Remote(address + ".none", MD5))
    assert files_under(store.cache) == []


def test_a_download_says_nothing_and_why_it_failed_in_a_few_words(
    store: Store, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = io.StringIO()
    monkeypatch.setattr(pooch.get_logger(), "handlers", [logging.StreamHandler(said)])
    store.obtain("set", ("sub",), ("set.gz",), Remote(address, MD5))
    with pytest.raises(DataError) as caught:
        store.obtain("set", ("sub",), ("none",), Remote("http://127.0.0.1:9/none", MD5))
    assert caught.value.got == "Connection refused"
    assert said.getvalue() == ""


def test_the_root_comes_before_the_cache(store: Store) -> None:
    assert store.root is not None
    for folder in (store.cache, store.root):
        folder.mkdir(exist_ok=True)
        (folder / "set").write_bytes(CONTENT)
    assert store.obtain("set", (".",), ("set",), None).parent == store.root


def test_a_missing_file_names_places_and_remedies(store: Store) -> None:
    offline = Store(store.root, store.cache, download=False)
    remote = Remote("http://127.0.0.1:9/set.gz", MD5)
    with pytest.raises(DataError) as caught:
        offline.obtain("the set", ("a", "b"), ("set", "set.gz"), remote)
    message = str(caught.value)
    for part in (
        "the set",
        "set or set.gz",
        *(str(root / sub) for root in (store.root, store.cache) for sub in ("a", "b")),
        "--data-root",
        ROOT_VARIABLE,
        remote.address,
    ):
        assert part in message


def test_the_option_comes_before_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    option, variable = tmp_path / "option", tmp_path / "variable"
    option.mkdir()
    variable.mkdir()
    monkeypatch.delenv(ROOT_VARIABLE, raising=False)
    assert open_store().root is None
    monkeypatch.setenv(ROOT_VARIABLE, str(variable))
    assert open_store().root == variable
    assert open_store(option).root == option


def test_a_root_that_is_no_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="--data-root"):
        open_store(tmp_path / "none")
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(DataError, match=ROOT_VARIABLE):
        open_store()


def test_a_checksum_names_file_expected_and_got() -> None:
    check_md5(Path("set"), CONTENT, MD5)
    with pytest.raises(DataError) as caught:
        check_md5(Path("some/set"), CONTENT + b"!", MD5)
    got = hashlib.md5(CONTENT + b"!", usedforsecurity=False).hexdigest()
    for part in ("some/set", MD5, got, "fetch it again"):
        assert part in str(caught.value)
