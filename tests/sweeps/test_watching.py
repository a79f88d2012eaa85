"""How long the rest takes, by hand."""

import pytest

from verify_pipeline.sweeps.watching import seconds_left


@pytest.mark.parametrize(
    ("done", "left", "jobs", "seconds"),
    [
        ([10.0], 6, 1, 60.0),
        ([10.0, 20.0], 6, 4, 22.5),
        ([10.0], 1, 4, 10.0),  # one run is not shared by four processes
        ([10.0], 3, 4, 10.0),
        ([10.0], 0, 4, 0.0),
    ],
)
def test_seconds_left(done: list[float], left: int, jobs: int, seconds: float) -> None:
    assert seconds_left(done, left, jobs) == pytest.approx(seconds)
