"""The steps that benchmarks compare make the same step; plain work counts its passes."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from stepping.authors_step import LOSSES, AuthorsStep
from stepping.clock import ProcessorClock, timed
from stepping.package_step import PackageStep
from stepping.plain_work import PlainWork, Work, latent_work
from stepping.subject import StepSize, Subject
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from verify_pipeline import losses
from verify_pipeline.lirpa import load
from verify_pipeline.training.settings import AttackSettings, TapsSettings

SIZE = StepSize(
    network="cnn5",
    width=0.1,
    shape=(3, 8, 8),
    classes=4,
    batch=6,
    epsilon=0.02,
    alpha=0.3,
    attack=AttackSettings(steps=3, step_size=0.4),
)


def subject(size: StepSize = SIZE) -> Subject:
    return Subject.made(size, torch.device("cpu"), torch.channels_last)


def gradient(module: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])


@pytest.mark.skipif(not load().version.startswith("0.3"), reason="written for auto_LiRPA 0.3")
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_authors_step_is_the_packages(loss: str, steps: int) -> None:
    size = replace(SIZE, attack=AttackSettings(steps=steps, step_size=0.4))
    ours, theirs = subject(size), subject(size)
    generator = torch.Generator().manual_seed(0)  # that of the package's step
    own = PackageStep(ours, loss)
    other = AuthorsStep(theirs, loss, lambda x: torch.rand(x.shape, generator=generator))
    for _ in range(2):
        value = other()
        assert float(own()) == pytest.approx(value, rel=1e-5)
        a, b = gradient(ours.module), gradient(theirs.module)
        assert float((a - b).norm()) < 1e-4 * float(b.norm())


def convolutions(run: Callable[[], object]) -> Counter[str]:
    """How many of them a run passes, forward and backward."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        run()
    names = ("aten::convolution", "aten::convolution_backward")
    return Counter(event.name for event in seen.events() if event.name in names)


def test_plain_work_passes_each_layer_as_often_as_it_says() -> None:
    made = subject()
    layers = sum(isinstance(layer, nn.Conv2d) for layer in made.module.modules())
    seen = convolutions(PlainWork(made.module, made.images, Work(2, 3, 2, 1)))
    assert seen["aten::convolution"] == layers * (2 + 3 + 2 + 1)
    assert seen["aten::convolution_backward"] == layers * (3 + 2 + 1)


@pytest.mark.parametrize("loss", losses.LOSSES)
def test_a_step_has_the_passes_of_its_plain_work(loss: str) -> None:
    steps = SIZE.attack.steps
    made = subject()
    step = PackageStep(made, loss)
    plain = PlainWork(made.module, made.images, Work.of(losses.get(loss), steps, SIZE.classes))
    assert convolutions(step) == convolutions(plain)


def test_the_latent_attack_passes_the_classifier_alone() -> None:
    made = subject()
    taps = TapsSettings(classifier_relus=1, attack=AttackSettings(steps=3))
    work = latent_work(made.module, made.images, taps, SIZE.classes)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as seen:
        work()
    passes = [event.input_shapes[0] for event in seen.events() if event.name == "aten::linear"]
    behind = [layer for layer in made.module if isinstance(layer, nn.Linear)][-2:]
    points = SIZE.batch * (SIZE.classes - 1)
    # three steps, a look at the last iterate, and the margins that are trained
    assert Counter(map(tuple, passes)) == {(points, layer.in_features): 5 for layer in behind}
    assert not convolutions(work)


def test_the_clock_counts_what_was_not_warm_up() -> None:
    runs: list[int] = []
    timing = timed(ProcessorClock(), lambda: runs.append(sum(range(100_000))), 2, 3)
    assert len(runs) == 5
    assert 0 < timing.least <= timing.median
    held: list[Tensor] = []
    growing = timed(ProcessorClock(), lambda: held.append(torch.ones(2**25)), 0, 4)
    assert growing.peak > 2**28
