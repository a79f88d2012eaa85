"""Reading what the tool writes: every status, its pickle, pickles that want to do something."""

import base64
import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.engines.malicious import Malicious
from verify_pipeline.engines.results import Row, read_rows
from verify_pipeline.engines.statuses import LATE, STATUSES, ToolClaim, read_status
from verify_pipeline.errors import DataError

# What release 0.7.0 wrote after three instances of VNN-COMP 2022's mnist_fc: safe-incomplete,
# unsafe-pgd, unknown after 24 domains, with the bound as a tensor.
RECORDED = base64.b64decode(
    "gASVSAIAAAAAAAB9lCiMB3N1bW1hcnmUjAtjb2xsZWN0aW9uc5SMC2RlZmF1bHRkaWN0lJOUjAhidWlsdGluc5SMBG"
    "xpc3SUk5SFlFKUKIwPc2FmZS1pbmNvbXBsZXRllF2USwBhjAp1bnNhZmUtcGdklF2USwFhjAd1bmtub3dulF2USwJh"
    "dYwHcmVzdWx0c5RdlChdlChoCkdAKbIDWAAAAGVdlChoDEc/2U8VAAAAAGVdlChoDkdANOkYOAAAAGVljAdiYWJfcm"
    "V0lF2UXZQoSwKMDHRvcmNoLl91dGlsc5SMEl9yZWJ1aWxkX3RlbnNvcl92MpSTlCiMDXRvcmNoLnN0b3JhZ2WUjBBf"
    "bG9hZF9mcm9tX2J5dGVzlJOUQ/+AAooKbPycRvkgaqhQGS6AAk3pAy6AAn1xAChYEAAAAHByb3RvY29sX3ZlcnNpb2"
    "5xAU3pA1gNAAAAbGl0dGxlX2VuZGlhbnECiFgKAAAAdHlwZV9zaXplc3EDfXEEKFgFAAAAc2hvcnRxBUsCWAMAAABp"
    "bnRxBksEWAQAAABsb25ncQdLBHV1LoACKFgHAAAAc3RvcmFnZXEAY3RvcmNoCkZsb2F0U3RvcmFnZQpxAVgOAAAAOT"
    "QzODQ0NDk2Mzg2ODhxAlgDAAAAY3B1cQNLAU50cQRRLoACXXEAWA4AAAA5NDM4NDQ0OTYzODY4OHEBYS4BAAAAAAAA"
    "AFg3Fb+UhZRSlEsAKSmJaAKMC09yZGVyZWREaWN0lJOUKVKUdJRSlEsYR0AjVtOgAAAAZWF1Lg=="
)


def written(tmp_path: Path, value: Any) -> Path:
    path = tmp_path / "results.pkl"
    path.write_bytes(value if isinstance(value, bytes) else pickle.dumps(value))
    return path


def test_a_recorded_file(tmp_path: Path) -> None:
    safe, unsafe, unknown = read_rows(written(tmp_path, RECORDED))
    assert safe == Row("safe-incomplete", 12.847681760787964)
    assert (unsafe.status, unsafe.domains) == ("unsafe-pgd", None)
    assert (unknown.status, unknown.domains) == ("unknown", 24)


@pytest.mark.parametrize(
    ("status", "claim"),
    [
        ("safe", ToolClaim.SAFE),
        ("safe-incomplete", ToolClaim.SAFE),
        ("safe-incomplete-refine", ToolClaim.SAFE),
        ("safe-mip", ToolClaim.SAFE),
        ("safe-lp", ToolClaim.SAFE),
        ("unsafe", ToolClaim.UNSAFE),
        ("unsafe-pgd", ToolClaim.UNSAFE),
        ("unsafe-bab", ToolClaim.UNSAFE),
        ("unsafe-mip", ToolClaim.UNSAFE),
        ("unsafe-lp", ToolClaim.UNSAFE),
        ("unknown", ToolClaim.OPEN),
        ("unknown-mip", ToolClaim.OPEN),
        ("unknown-lp", ToolClaim.OPEN),
    ],
)
def test_every_status_with_and_without_the_word_that_it_came_late(
    status: str, claim: ToolClaim
) -> None:
    assert status in STATUSES
    assert read_status(status) is read_status(status + LATE) is claim


@pytest.mark.parametrize("status", ["", "SAFE", "safe!", "not-safe", "safe (timed out) ", "sat"])
def test_a_status_that_is_not_known_claims_nothing(status: str) -> None:
    assert read_status(status) is ToolClaim.OPEN


def test_numbers_and_tensors_of_any_making_are_passed_over(tmp_path: Path) -> None:
    bounds = [np.float32(0.5), np.zeros(3), torch.zeros(2), float("nan"), None]
    held = {
        "summary": defaultdict(list, {"safe": [0, 1, 2, 3, 4]}),
        "results": [["safe", 1.0]] * len(bounds),
        "bab_ret": [[place, bound, 8, 0.5] for place, bound in enumerate(bounds)],
    }
    assert read_rows(written(tmp_path, held)) == (Row("safe", 1.0, 8),) * len(bounds)


def test_a_pickle_that_would_run_something_is_refused_unrun(tmp_path: Path) -> None:
    trace = tmp_path / "was-here"
    path = written(tmp_path, {"results": [["safe", 1.0]], "bab_ret": [Malicious(trace)]})
    with pytest.raises(DataError, match=r"mkdir"):
        read_rows(path)
    assert not trace.exists()


def test_a_pickle_inside_a_tensor_is_not_opened(tmp_path: Path) -> None:
    trace = tmp_path / "was-here"
    content = pickle.dumps(
        {"results": [["safe", 1.0]], "bab_ret": [[0, Loads(pickle.dumps(Malicious(trace))), 1]]}
    )
    assert read_rows(written(tmp_path, content)) == (Row("safe", 1.0, 1),)
    assert not trace.exists()


class Loads:
    """Asks for torch's reader of bytes, which opens any pickle in them."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __reduce__(self) -> Any:
        return torch.storage._load_from_bytes, (self.content,)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"garbage",
        RECORDED[:-40],
        [["safe", 1.0]],
        {"results": "safe"},
        {"results": [["safe"]]},
        {"results": [[1, 1.0]]},
        {"results": [["safe", "soon"]]},
        {"results": [["safe", float("nan")]]},
        {"summary": {"safe": [0]}},
    ],
)
def test_anything_else_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(DataError):
        read_rows(written(tmp_path, value))


def test_no_file_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a file"):
        read_rows(tmp_path / "results.pkl")
