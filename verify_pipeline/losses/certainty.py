"""EDAC's adversarial certainty: Zhang et al. 2023 (arXiv:2310.04539)."""

from __future__ import annotations

from torch import Tensor

from verify_pipeline.losses.probabilities import relative_logits


def adversarial_certainty(adversarial: Tensor) -> Tensor:
    """``mean_n std_k f_k(x'_n)``: how far apart logits are at adversarial points.

    Zhang et al. 2023 (arXiv:2310.04539). EDAC takes a step that decreases it, and then an ordinary
    step, with an attack of its own, at the new weights. The standard deviation over the K classes
    is unbiased. A constant added to the logits does not change it: it is a function of margins.

    Args:
        adversarial: margins at the attack's points, ``N x S``.

    Returns:
        A scalar, >= 0.
    """
    return relative_logits(adversarial).std(-1).mean()
