"""Recipes are read strictly: everything wrong at once, by dotted path."""

from pathlib import Path

import pytest

from verify_pipeline.config import Recipe, dump, load_recipe, recipe_names
from verify_pipeline.errors import ConfigError

GOOD = """\
description: a small one
train:
  data: {name: digits}
  network: {name: conv-small}
  loss: {name: cc-ibp, alpha: 0.25}
  epsilon: {target: 2/255}
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD, encoding="utf-8")
    return path


def errors_of(path: Path, **overrides: str) -> list[str]:
    """The lines of the error that a recipe gives."""
    with pytest.raises(ConfigError) as caught:
        load_recipe(path, overrides)
    return str(caught.value).splitlines()


def test_fractions_are_exact_and_the_file_gives_the_name(recipe_file: Path) -> None:
    recipe = load_recipe(recipe_file)
    assert recipe.name == "mine"
    assert recipe.train.epsilon.target == 2 / 255
    assert load_recipe(str(recipe_file)) == recipe


def test_a_dumped_recipe_reads_back_equal(recipe_file: Path, tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file)
    copy = tmp_path / "copy" / "mine.yaml"
    copy.parent.mkdir()
    copy.write_text(dump(recipe), encoding="utf-8")
    assert load_recipe(copy) == recipe


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        """\
description: many mistakes
train:
  data: {name: imagenette}
  network: {name: conv-smal, width: -1}
  loss: {name: cc-ibp, alpha: 1.5, alhpa: 0.5}
  epsilon: {target: 300/255}
  epsilon: {target: 1/255}
  optimiser:
    epochs: 0
    batch: true
    milestones: [10, x]
  attack: 3
  sede: 1
  watch: {every: 1.5}
extra: 1
""",
        encoding="utf-8",
    )
    lines = errors_of(path)
    assert lines[0] == f"{path}: 14 errors"
    message = "\n".join(lines)
    for part in (
        "train.data.name (line 3): expected one of digits",
        "train.network.name (line 4): expected one of",
        "train.epsilon (line 7): duplicate key, first on line 6",
        "train.network.width (line 4): input should be greater than 0; got -1",
        "train.loss.alpha (line 5): input should be less than or equal to 1; got 1.5",
        "train.loss.alhpa (line 5): unknown key; expected one of name, alpha",
        "(did you mean alpha?)",
        "train.epsilon.target (line 6): input should be less than or equal to 1; got '300/255'",
        "train.optimiser.epochs (line 9): input should be greater than or equal to 1; got 0",
        "train.optimiser.batch (line 10): input should be a valid integer; got True",
        "train.optimiser.milestones[1] (line 11): input should be a valid integer; got 'x'",
        "train.attack (line 12): expected a mapping of keys to values; got 3",
        "train.sede (line 13): unknown key",
        "(did you mean seed?)",
        "extra (line 15): unknown key",
    ):
        assert part in message, part


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("name: digits", "name: imagenette", "train.data.name (line 3): expected one of digits"),
        ("conv-small", "conv-smal", "train.network.name (line 4): expected one of"),
        ("conv-small", "conv-smal", "(did you mean conv-small?); got 'conv-smal'"),
        ("2/255", "2/0", "train.epsilon.target (line 6): expected a finite number, or a fraction"),
        ("2/255", "-0.1", "train.epsilon.target (line 6): input should be greater than or equal"),
        ("2/255", "1.01", "train.epsilon.target (line 6): input should be less than or equal to 1"),
        ("2/255", ".nan", "train.epsilon.target (line 6)"),
        ("2/255", "true", "train.epsilon.target (line 6): expected a number, got True"),
        ("alpha: 0.25", "alpha:", "train.loss.alpha (line 5)"),
        ("  epsilon: {target: 2/255}\n", "", "train.epsilon (line 2): missing; this key is needed"),
        ("description: a small one", "description: 3", "description (line 1)"),
        (GOOD, "description: x", "train: missing"),
    ],
)
def test_each_mistake_is_named(recipe_file: Path, old: str, new: str, told: str) -> None:
    recipe_file.write_text(GOOD.replace(old, new), encoding="utf-8")
    assert told in "\n".join(errors_of(recipe_file))


def test_overrides_replace_values_and_are_checked_too(recipe_file: Path) -> None:
    recipe = load_recipe(
        recipe_file,
        {"train.loss.alpha": "1/2", "train.optimiser.milestones": "[3, 4]", "train.seed": "7"},
    )
    assert recipe.train.loss.alpha == 0.5
    assert recipe.train.optimiser.milestones == (3, 4)
    assert recipe.train.seed == 7
    message = "\n".join(
        errors_of(recipe_file, **{"train.loss.alpha": "2", "train.sed": "1", "train.seed.x": "1"})
    )
    assert "train.loss.alpha (--set): input should be less than or equal to 1; got 2" in message
    assert "train.sed (--set): unknown key" in message
    assert "[" in "\n".join(errors_of(recipe_file, **{"train.seed": "[1"}))


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("train.epsilon", "{target: 3}", "train.epsilon.target (--set): input should be less"),
        ("train.network.name", "cnn9", "train.network.name (--set): expected one of"),
        ("certify.search", "none-such", "certify.search (--set): search 'none-such'"),
        ("certify.stages", "[clean, magic]", "certify.stages[1] (--set): input should be"),
        ("train.sub.key", "1", "train.sub (--set): unknown key"),
        ("train.seed", "[1", "train.seed (--set): cannot read '[1' as a YAML value"),
        ("train.seed", "012", "train.seed (--set): 012 has a leading zero"),
        ("train.loss.name.x", "1", "train.loss.name.x (--set): name holds a value, not keys"),
        ("train.loss", "{alpha: 2}", "train.loss.name (--set): missing"),
    ],
)
def test_an_error_of_an_override_cites_no_line_of_the_file(
    recipe_file: Path, key: str, value: str, told: str
) -> None:
    message = "\n".join(errors_of(recipe_file, **{key: value})[1:])
    assert told in message
    assert "(line" not in message


def test_beside_an_override_the_files_own_errors_keep_their_lines(recipe_file: Path) -> None:
    recipe_file.write_text(GOOD.replace("2/255", "2"), encoding="utf-8")
    message = "\n".join(errors_of(recipe_file, **{"train.loss.alpha": "3"}))
    assert "train.loss.alpha (--set)" in message
    assert "train.epsilon.target (line 6)" in message


def test_unknown_recipes_are_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mnist-0\.1-cnn7-cc-ibp.*did you mean"):
        load_recipe("mnist-0.1-cnn7-cc-ipb")
    with pytest.raises(ConfigError, match="no such file"):
        load_recipe(tmp_path / "none.yaml")


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_of_the_package_loads(name: str) -> None:
    recipe = load_recipe(name)
    assert isinstance(recipe, Recipe)
    assert recipe.description
    milestones = recipe.train.optimiser.milestones
    assert list(milestones) == sorted(milestones)
    assert all(m < recipe.train.optimiser.epochs for m in milestones)


# The paper's table (De Palma et al. 2024, appendix), written out a second time on purpose:
# name: ε, batch, epochs, milestones, (start, length), attack steps x size, attack factor, eps-mul,
# regulariser, then (α, L1) of each loss.
PAPER = {
    "mnist-0.1": (0.1, 256, 70, (50, 60), (1, 20), 1, 10.0, 1.0, 2.0, 0.5),
    "mnist-0.3": (0.3, 256, 70, (50, 60), (1, 20), 1, 10.0, 1.0, 1.334, 0.5),
    "cifar10-2-255": (2 / 255, 128, 160, (120, 140), (2, 80), 8, 0.25, 2.1, 1.0, 0.5),
    "cifar10-8-255": (8 / 255, 128, 260, (180, 220), (2, 80), 1, 10.0, 1.0, 1.0, 0.5),
    "tinyimagenet-1-255": (1 / 255, 128, 160, (120, 140), (2, 80), 1, 10.0, 1.0, 1.0, 0.2),
    "imagenet64-1-255": (1 / 255, 128, 80, (60, 70), (2, 20), 1, 10.0, 1.0, 1.0, 0.2),
}
PAPER_LOSSES = {
    "mnist-0.1": {"cc-ibp": (0.1, 2e-6), "mtl-ibp": (1e-2, 1e-5)},
    "mnist-0.3": {"cc-ibp": (0.3, 3e-6), "mtl-ibp": (8e-2, 1e-6)},
    "cifar10-2-255": {"cc-ibp": (1e-2, 3e-6), "mtl-ibp": (4e-3, 3e-6), "exp-ibp": (9.5e-2, 4e-6)},
    "cifar10-8-255": {"cc-ibp": (0.5, 0.0), "mtl-ibp": (0.5, 1e-7), "exp-ibp": (0.5, 0.0)},
    "tinyimagenet-1-255": dict.fromkeys(("cc-ibp", "mtl-ibp"), (1e-2, 5e-5))
    | {"exp-ibp": (4e-2, 5e-5)},
    "imagenet64-1-255": dict.fromkeys(("cc-ibp", "mtl-ibp", "exp-ibp"), (5e-2, 1e-5)),
}


@pytest.mark.parametrize(
    ("row", "loss"), [(row, loss) for row, losses in PAPER_LOSSES.items() for loss in losses]
)
def test_recipes_say_what_the_paper_says(row: str, loss: str) -> None:
    train = load_recipe(f"{row}-cnn7-{loss}").train
    optimiser, epsilon = train.optimiser, train.epsilon
    assert (
        epsilon.target,
        optimiser.batch,
        optimiser.epochs,
        optimiser.milestones,
        (epsilon.start, epsilon.length),
        train.attack.steps,
        train.attack.step_size,
        epsilon.attack_epsilon_factor,
        epsilon.train_factor,
        train.regulariser.weight,
    ) == PAPER[row]
    assert (train.loss.name, train.loss.alpha, optimiser.l1) == (loss, *PAPER_LOSSES[row][loss])
    assert train.data.name == row.split("-")[0]
    assert (optimiser.learning_rate, optimiser.decay, optimiser.clip) == (5e-4, 0.2, 10.0)
    assert train.network.name == "cnn7"
    assert train.batch_norm_policy == "paper"
    assert train.data.validation == 0


@pytest.mark.parametrize("row", PAPER)
def test_recipes_are_certified_at_their_own_epsilon(row: str) -> None:
    certify = load_recipe(f"{row}-cnn7-cc-ibp").certify
    assert certify.epsilon == PAPER[row][0]
    assert certify.search == f"cnn7_{row.replace('-', '_')}"
    assert certify.indices == ":"
