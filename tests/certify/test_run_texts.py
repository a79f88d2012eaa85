"""What a run's texts say can be read back, whatever kind of number the caller had."""

import numpy as np
import pytest

from verify_pipeline.certify.perturbations import ChannelBalls, LinfBall
from verify_pipeline.certify.preprocessing import Preprocessing
from verify_pipeline.certify.questions import ball_of, is_question, question_of
from verify_pipeline.certify.records import Run


@pytest.mark.parametrize("kind", [float, np.float64, np.float32])
def test_numbers_of_numpy_are_written_as_numbers(kind: type[float]) -> None:
    half = kind(0.5)
    for ball in (LinfBall(half), ChannelBalls((half, half))):
        words = Preprocessing((half,), (half,)).name
        run = Run("", "", "", f"{ball.name}; {words}", "margins", "")
        assert is_question(run)
        assert ball_of(ball.name) == ball
        question = question_of(run)
        assert question is not None
        assert question.preprocessing == Preprocessing((0.5,), (0.5,), "nchw")


@pytest.mark.parametrize(
    ("box", "specification"),
    [
        ("linf", "margins"),
        ("linf e", "margins"),
        ("linf 1.0.0", "margins"),
        ("linf -1", "margins"),
        ("linf by pixel", "margins"),
        ("boxes; mean 1", "margins"),
        ("boxes", "top-0"),
        ("boxes", "rows"),
        ("boxes", "rows 12"),
        ("", ""),
    ],
)
def test_other_texts_are_no_question(box: str, specification: str) -> None:
    assert not is_question(Run("", "", "", box, specification, ""))


def test_one_channel_has_the_text_and_the_number_of_one_ball() -> None:
    one = ChannelBalls((0.1,))
    assert (one.name, one.epsilon) == (LinfBall(0.1).name, 0.1)
    assert ChannelBalls((0.1, 0.1)).epsilon is None
