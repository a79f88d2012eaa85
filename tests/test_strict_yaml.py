"""Strict YAML: numbers as in YAML 1.2, nothing ambiguous."""

import subprocess
import sys
from pathlib import Path

import pytest

from verify_pipeline.errors import ConfigError
from verify_pipeline.strict_yaml import dotted, load, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E3", 1000.0),
        ("-2.5", -2.5),
        (".5", 0.5),
        ("12", 12),
        ("-7", -7),
        ("0", 0),
        ("on", "on"),
        ("yes", "yes"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("2/255", "2/255"),
        ("'012'", "012"),
        ("2026-11-22", "2026-11-22"),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        ("1:30", "1:30"),
        ("[1, two, 3.0]", [1, "two", 3.0]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
    ],
)
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    read = load(f"key: {text}")["key"]
    assert read == value
    assert type(read) is type(value)


def test_duplicate_keys_are_all_named_with_their_lines() -> None:
    text = "a: 1\nb:\n  c: 1\n  c: 2\na: 2\n"
    with pytest.raises(ConfigError) as caught:
        load(text)
    message = str(caught.value)
    assert "2 errors" in message
    assert "b.c (line 4): duplicate key, first on line 3" in message
    assert "a (line 5): duplicate key, first on line 1" in message
    assert parse(text).value == {"a": 1, "b": {"c": 1}}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a: 012", "a (line 1): 012 has a leading zero"),
        ("a: [1, -007]", "a[1] (line 1): -007 has a leading zero"),
        ("1: a", "a key that is not text"),
        ("a:\n  true: 2", "a (line 2): a key that is not text"),
        ("a: &x 1\nb: *x", "line 1; expected YAML; got an anchor or alias"),
        ("a: &x [*x]", "an anchor or alias"),
        ("a: !!python/object:os.system 1", "the tag tag:yaml.org,2002:python/object:os.system"),
        ("a: !!binary abcd", "is not allowed"),
        ("a: 1\n b: 2", "line 2"),
        ("a: [1, 2", "expected YAML"),
        ("- 1", "expected a mapping of keys to values; got a list or a scalar"),
        ("", "expected a mapping of keys to values; got nothing"),
        ("a: 1\n---\nb: 2", "expected YAML"),
        ("a: \x00", "expected YAML"),
        ("a: " + "[" * 5000, "expected YAML"),
    ],
)
def test_ambiguous_or_broken_text_is_refused(text: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert named in str(caught.value)


def test_files_are_read_and_named(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("ε: 2/255\n", encoding="utf-8")
    assert load(path) == {"ε": "2/255"}
    with pytest.raises(ConfigError, match=r"missing\.yaml; expected a YAML file; got no such file"):
        load(tmp_path / "missing.yaml")
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ConfigError, match="UTF-8"):
        load(path)
    with pytest.raises(ConfigError, match="readable"):
        load(tmp_path)


def test_places_name_path_and_line() -> None:
    document = parse("train:\n  loss:\n    name: ibp\n")
    assert document.place(("train", "loss", "name")) == "train.loss.name (line 3)"
    assert document.place(("train", "loss", "alpha")) == "train.loss.alpha (line 2)"
    assert document.place(("certify",)) == "certify"
    assert dotted(("a", 0, "b", 12)) == "a[0].b[12]"


@pytest.mark.parametrize(
    "text", ["a: " + "[" * 101 + "]" * 101, "a: " + "{a: " * 101 + "}" * 101, "- " * 101 + "a: 1"]
)
def test_nesting_too_deep_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="nested deeper than 100"):
        load(text)


def test_nesting_is_counted_from_each_node_anew() -> None:
    deep = "[" * 90 + "1" + "]" * 90
    assert load(f"a: {deep}\nb: {deep}\nc: {[[1]] * 150}")["c"] == [[1]] * 150


@pytest.mark.parametrize("text", ["[" * 100_000, "a: " + "{a: " * 50_000 + "}" * 50_000])
def test_nesting_is_refused_at_any_recursion_limit(text: str) -> None:
    # in a process of its own: where this fails, the interpreter dies
    code = (
        "import sys; sys.setrecursionlimit(10**6)\n"
        "from verify_pipeline.errors import ConfigError\n"
        "from verify_pipeline.strict_yaml import load\n"
        "try: load(sys.stdin.read())\n"
        "except ConfigError: print('refused')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=text, capture_output=True, text=True, check=False
    )
    assert done.stdout == "refused\n", done.stderr
