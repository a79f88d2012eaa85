"""JSON of other people's files: values as the standard library reads them, no deep nesting."""

import json
import subprocess
import sys

import pytest

from verify_pipeline.strict_json import parse


@pytest.mark.parametrize(
    "text",
    [
        "null",
        '{"a": [1, 2.5, "b"], "c": {}}',
        "[" * 100 + "]" * 100,
        json.dumps([[1]] * 1000),
        json.dumps("[" * 1000),
        json.dumps(['"[', "\\", '\\"' + "{" * 1000, []]),
    ],
)
def test_values_are_those_of_the_standard_library(text: str) -> None:
    assert parse(text) == json.loads(text)


@pytest.mark.parametrize("text", ["[" * 101 + "]" * 101, '{"a":' * 101 + "1" + "}" * 101])
def test_deep_nesting_is_no_value(text: str) -> None:
    with pytest.raises(ValueError, match="nested deeper than 100"):
        parse(text)


def test_nesting_is_refused_at_any_recursion_limit() -> None:
    # in a process of its own: where this fails, the interpreter dies
    code = (
        "import sys; sys.setrecursionlimit(10**6)\n"
        "from verify_pipeline.strict_json import parse\n"
        "try: parse('[' * 200_000)\n"
        "except ValueError: print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "refused\n", done.stderr


def test_an_open_text_takes_no_quadratic_time() -> None:
    with pytest.raises(ValueError, match="Unterminated"):
        parse('["' + '\\"' * 200_000 + "[" * 200)
