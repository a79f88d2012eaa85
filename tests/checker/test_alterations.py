"""Proofs that were altered: what takes a claim's support away is rejected, what does not is not."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.checker.proofs import (
    CLASSES,
    INPUTS,
    KINDS,
    Proved,
    attention_file,
    by_kind,
    margins,
    network_file,
)
from verify_checker import Proof, Refused, Rejected, check, read_network, read_proof
from verify_checker.folder import CHECKED, REJECTED, check_file, check_folder
from verify_checker.proof import AGAIN, INPUT, LEAF, MAGIC, NEURON, Tree
from verify_pipeline.proving.proof_file import leaf_only, write_proof


def with_tree(proof: Proof, which: int, /, **changes: object) -> Proof:
    """The proof with changes in one of its trees."""
    trees = list(proof.trees)
    trees[which] = replace(trees[which], **changes)  # type: ignore[arg-type]
    return replace(proof, trees=tuple(trees))


def without(tree: Tree, node: int) -> dict[str, object]:
    """The arrays of a tree without one of its nodes."""
    return {
        name: np.delete(getattr(tree, name), node) for name in ("kind", "value", "number", "at")
    }


def largest(proof: Proof) -> int:
    """The number of the tree with most nodes."""
    return int(np.argmax([len(tree.kind) for tree in proof.trees]))


def bad_trees(proof: Proof) -> Iterator[tuple[str, Proof]]:
    """A tree is not complete, or its splits are none."""
    for number, tree in enumerate(proof.trees):
        for node in range(0, len(tree.kind), max(1, len(tree.kind) // 8)):
            yield (
                f"tree {number} without node {node}",
                with_tree(proof, number, **without(tree, node)),
            )
        for kind in (LEAF, AGAIN, 4, 255):
            first = tree.kind.copy()
            if first[0] != kind and not (kind == AGAIN and len(first) == 1):
                first[0] = kind
                yield f"tree {number} begins with {kind}", with_tree(proof, number, kind=first)
        twice = {n: np.repeat(getattr(tree, n), 2) for n in ("kind", "value", "number", "at")}
        yield f"tree {number} twice", with_tree(proof, number, **twice)
        empty = {n: getattr(tree, n)[:0] for n in ("kind", "value", "number", "at")}
        yield f"tree {number} without nodes", with_tree(proof, number, **empty)
        yield f"tree {number} for row 99", with_tree(proof, number, rows=np.array([99]))
        yield f"tree {number} for no row", with_tree(proof, number, rows=np.zeros(0, dtype=int))
        yield (
            f"no tree {number}",
            replace(proof, trees=proof.trees[:number] + proof.trees[number + 1 :]),
        )


def bad_splits(proof: Proof) -> Iterator[tuple[str, Proof]]:
    """Splits at what is not there, outside limits, or of a neuron that is split already."""
    number = largest(proof)
    tree = proof.trees[number]
    inner = np.flatnonzero((tree.kind == NEURON) | (tree.kind == INPUT))
    for node in inner[:6]:
        far = tree.number.copy()
        far[node] = 10_000
        yield f"node {node} splits number 10000", with_tree(proof, number, number=far)
        if tree.kind[node] == NEURON:
            other = tree.value.copy()
            other[node] = 77
            yield f"node {node} splits value 77", with_tree(proof, number, value=other)
        else:
            for at in (np.nan, np.inf, -np.inf, -1.0, 2.0, np.nextafter(0, -1)):
                moved = tree.at.copy()
                moved[node] = at
                yield f"node {node} splits at {at}", with_tree(proof, number, at=moved)
    nodes = np.flatnonzero(tree.kind == NEURON)
    if len(nodes) > 1:  # a split below the first one, in preorder, at the same neuron
        again, value = tree.number.copy(), tree.value.copy()
        again[nodes[1]], value[nodes[1]] = again[nodes[0]], value[nodes[0]]
        yield "a neuron split twice", with_tree(proof, number, number=again, value=value)


def bad_multipliers(proof: Proof) -> Iterator[tuple[str, Proof]]:
    """Multipliers that are negative, missing, too many, or not numbers."""
    for number, tree in enumerate(proof.trees):
        if tree.beta is not None and len(tree.beta):
            for place in range(0, len(tree.beta), max(1, len(tree.beta) // 6)):
                for value in (-1e-6, -1.0, np.nan, np.inf):
                    beta = tree.beta.copy()
                    beta[place] = value
                    yield f"β {place} is {value}", with_tree(proof, number, beta=beta)
            yield "β is short", with_tree(proof, number, beta=tree.beta[:-1])
            yield "β is long", with_tree(proof, number, beta=np.append(tree.beta, tree.beta[:1]))
        if tree.alpha is not None and tree.alpha.size:
            yield "α is narrow", with_tree(proof, number, alpha=tree.alpha[:, :, :-1])
            yield "α of no row", with_tree(proof, number, alpha=tree.alpha[:, :0])
            yield "α is flat", with_tree(proof, number, alpha=tree.alpha[0])
            if len(tree.alpha) > 2:
                yield "α of too few leaves", with_tree(proof, number, alpha=tree.alpha[:2])
        if tree.intervals:
            continue
        yield f"tree {number} by intervals", with_tree(proof, number, intervals=True)


def bad_lemmas(proof: Proof) -> Iterator[tuple[str, Proof]]:
    """Limits that exclude values of the neurons, or are none."""
    for number, lemma in enumerate(proof.lemmas):
        middle = (lemma.lower + lemma.upper) / 2
        for place in range(0, len(lemma.places), max(1, len(lemma.places) // 5)):
            for value in (middle[place], np.nan, np.inf):
                for side in ("lower", "upper"):
                    limits = getattr(lemma, side).copy()
                    limits[place] = value
                    changed = replace(lemma, **{side: limits})
                    lemmas = (*proof.lemmas[:number], changed, *proof.lemmas[number + 1 :])
                    yield f"{side} limit {place} is {value}", replace(proof, lemmas=lemmas)
        for changed in (
            replace(lemma, places=lemma.places * 0),
            replace(lemma, places=lemma.places + 10_000),
            replace(lemma, value="nothing"),
            replace(lemma, lower=lemma.lower[:-1]),
            replace(lemma, lower=lemma.upper, upper=lemma.lower),
        ):
            yield "a lemma about something else", replace(proof, lemmas=(changed,))
    if proof.lemmas and not all(tree.intervals for tree in proof.trees):
        yield "no lemmas", replace(proof, lemmas=())


def bad_claims(proof: Proof) -> Iterator[tuple[str, Proof]]:
    """Claims that are false, or none."""
    label = int(proof.about["label"])
    other = margins((label + 1) % CLASSES)
    yield "rows of another class", replace(proof, rows=other)
    yield "opposite rows", replace(proof, rows=-proof.rows)
    yield "greater rows", replace(proof, rows=proof.rows, offsets=proof.offsets - 100.0)
    for value in (np.nan, np.inf):
        rows, offsets = proof.rows.copy(), proof.offsets.copy()
        rows[0, 0] = offsets[0] = value
        yield f"a row with {value}", replace(proof, rows=rows)
        yield f"an offset of {value}", replace(proof, offsets=offsets)
        for side in ("lower", "upper"):
            limits = getattr(proof, side).copy()
            limits[0] = value
            yield f"{side} is {value}", replace(proof, **{side: limits})
    yield "a box inside out", replace(proof, lower=proof.upper, upper=proof.lower)
    yield (
        "a box of one input more",
        replace(proof, lower=np.append(proof.lower, 0.0), upper=np.append(proof.upper, 1.0)),
    )
    yield "a far larger box", replace(proof, lower=proof.lower - 50, upper=proof.upper + 50)
    yield "no rows", replace(proof, rows=proof.rows[:0], offsets=proof.offsets[:0])
    yield "rows of four outputs", replace(proof, rows=np.ones((2, 4)))
    yield "groups of other rows", replace(proof, groups=np.zeros(5, dtype=int))
    whole = leaf_only(np.arange(len(proof.rows)))
    joined = (replace(whole, any_row=True),)
    yield "one of two rows suffices", replace(proof, trees=joined)


ALTERATIONS: dict[str, Callable[[Proof], Iterator[tuple[str, Proof]]]] = {
    "trees": bad_trees,
    "splits": bad_splits,
    "multipliers": bad_multipliers,
    "lemmas": bad_lemmas,
    "claims": bad_claims,
}


def rejected(proved: Proved, altered: Proof) -> bool:
    try:
        return not proved.accepts(altered)
    except Rejected:
        return True


@pytest.mark.parametrize("kind", KINDS)
def test_proofs_are_accepted_as_they_are(kind: str) -> None:
    proved = by_kind(kind)
    assert proved.accepts(proved.proof)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("which", ALTERATIONS)
def test_proofs_without_support_are_rejected(kind: str, which: str) -> None:
    proved = by_kind(kind)
    passed = [
        name for name, altered in ALTERATIONS[which](proved.proof) if not rejected(proved, altered)
    ]
    assert not passed


def test_kinds_of_proofs_are_what_they_say() -> None:
    trees = {kind: by_kind(kind).proof.trees for kind in KINDS}
    assert all(tree.intervals for tree in trees["intervals"])
    for kind in ("walks", "slopes"):
        assert not all(tree.intervals for tree in trees[kind])
        assert all(len(tree.kind) == 1 for tree in trees[kind])
    assert all(tree.alpha is None for tree in trees["walks"])
    assert any(tree.alpha is not None for tree in trees["slopes"])
    assert any(NEURON in tree.kind for tree in trees["relus"])
    assert any(INPUT in tree.kind for tree in trees["inputs"])
    assert len(by_kind("attention").proof.lemmas) == 6
    assert any(NEURON in tree.kind for tree in trees["attention, relus"])
    assert any(tree.alpha is not None for tree in trees["attention, relus"])
    assert any(INPUT in tree.kind for tree in trees["attention, inputs"])


def test_there_are_at_least_two_hundred_alterations() -> None:
    counts = [len(list(alter(by_kind(k).proof))) for k in KINDS for alter in ALTERATIONS.values()]
    assert sum(counts) >= 200


def test_leaves_of_the_two_sides_of_a_split_do_not_stand_for_each_other() -> None:
    proved = by_kind("relus")
    number = largest(proved.proof)
    tree = proved.proof.trees[number]
    assert tree.alpha is not None
    assert tree.beta is not None
    assert tree.kind[0] == NEURON
    leaf = np.flatnonzero(tree.kind == LEAF)
    # the multipliers of all leaves in the opposite order
    backwards = with_tree(
        proved.proof, number, alpha=tree.alpha[::-1].copy(), beta=tree.beta[::-1].copy()
    )
    assert len(leaf) > 2
    assert rejected(proved, backwards)


def harmless(proved: Proved) -> Iterator[tuple[str, Proof]]:
    """Changes that leave a proof a proof."""
    proof, rng = proved.proof, np.random.default_rng(0)
    # bounds behind a softmax grow faster than limits before it: there, only the last ones are free
    first = len(proof.lemmas) - 1 if proved.data == attention_file() else 0
    for step in (1e-6, 1e-5, 1e-4):
        lemmas = proof.lemmas[: max(first, 0)] + tuple(
            replace(
                lemma,
                lower=lemma.lower - np.float32(step) * np.abs(lemma.lower),
                upper=lemma.upper + np.float32(step) * np.abs(lemma.upper),
            )
            for lemma in proof.lemmas[max(first, 0) :]
        )
        yield f"limits looser by {step}", replace(proof, lemmas=lemmas)
        trees = tuple(
            tree if tree.beta is None else replace(tree, beta=tree.beta * np.float32(1 + step))
            for tree in proof.trees
        )
        yield f"β greater by {step}", replace(proof, trees=trees)
        yield f"rows greater by {step}", replace(proof, rows=proof.rows * (1 + step))
        yield f"offsets greater by {step}", replace(proof, offsets=proof.offsets + step)
        middle = (proof.lower + proof.upper) / 2
        if not any((tree.kind == INPUT).any() for tree in proof.trees):
            narrower = (proof.lower + step * (middle - proof.lower)), proof.upper
            yield f"a box narrower by {step}", replace(proof, lower=narrower[0], upper=narrower[1])
    yield "trees in another order", replace(proof, trees=proof.trees[::-1])
    yield "a tree twice", replace(proof, trees=(*proof.trees, proof.trees[0]))
    yield "lemmas twice", replace(proof, lemmas=(*proof.lemmas, *proof.lemmas))
    for _ in range(3):
        trees = tuple(
            tree
            if tree.alpha is None or tree.alpha.dtype != np.uint8
            else replace(tree, alpha=_shaken(tree.alpha, rng))
            for tree in proof.trees
        )
        yield "α that differ by a few 1/65535", replace(proof, trees=trees)
    yield "other remarks", replace(proof, about={**proof.about, "index": 7})


def _shaken(alpha: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    wide = alpha.astype(np.int64) * 257 + rng.integers(-3, 4, alpha.shape)
    return np.clip(wide, 0, 65535).astype(np.uint16)


@pytest.mark.parametrize("kind", KINDS)
def test_harmless_changes_are_accepted(kind: str) -> None:
    proved = by_kind(kind)
    for name, changed in harmless(proved):
        assert not rejected(proved, changed), name


def test_there_are_at_least_fifty_harmless_changes() -> None:
    assert sum(len(list(harmless(by_kind(kind)))) for kind in KINDS) >= 50


def repacked(data: bytes, header: dict[str, object] | None = None, body: bytes = b"") -> bytes:
    """A proof's file with another header, or with more behind its arrays."""
    plain = zlib.decompress(data[len(MAGIC) :])
    first, _, rest = plain.partition(b"\n")
    line = first if header is None else json.dumps(header).encode()
    return MAGIC + zlib.compress(line + b"\n" + rest + body)


def damaged(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Files that are cut off, changed, or made to do harm."""
    rng = np.random.default_rng(1)
    for length in rng.integers(0, len(data) - 1, 12):
        yield f"{length} bytes of it", data[:length]
    for place in rng.integers(len(MAGIC), len(data), 12):
        yield f"byte {place}", data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :]
    yield "more behind its end", data + b"more"
    yield "more numbers", repacked(data, body=b"1234")
    yield "another format", data.replace(b"proof 1", b"proof 2", 1)
    yield "a pickle", b"\x80\x04\x95"
    header = json.loads(zlib.decompress(data[len(MAGIC) :]).split(b"\n")[0])
    arrays = header["arrays"]
    for kind, shape in (
        ("<f8", [1 << 60]),
        ("<f8", [1 << 40, 1 << 40]),
        ("<f8", [-1]),
        ("<f8", ["4"]),
        ("|O", [1]),
        ("<i8", [1]),
        ("<f2", [1]),
        ("<U9", [1]),
    ):
        listed = [[arrays[0][0], kind, shape], *arrays[1:]]
        yield f"an array of {kind} and {shape}", repacked(data, {**header, "arrays": listed})
    for key in header:
        rest = {name: value for name, value in header.items() if name != key}
        yield f"no {key}", repacked(data, rest)
        yield f"{key} of another type", repacked(data, {**rest, key: 7})
    yield "the same array twice", repacked(data, {**header, "arrays": [arrays[0], *arrays]})
    yield "a deep header", MAGIC + zlib.compress(b"[" * 100_000 + b"\n")
    yield "a long header", MAGIC + zlib.compress(b" " * (1 << 23) + b"\n")


def test_damaged_and_malicious_files_are_rejected_with_a_message(tmp_path: Path) -> None:
    proved = by_kind("relus")
    (tmp_path / "network.onnx").write_bytes(network_file())
    known = {hashlib.sha256(network_file()).hexdigest(): tmp_path / "network.onnx"}
    path = tmp_path / "one.proof"
    for name, data in damaged(write_proof(proved.proof)):
        path.write_bytes(data)
        result = check_file(path, "one.proof", known)
        assert result.outcome == REJECTED, name
        assert result.reason, name


def test_margins_of_which_one_suffices_are_no_margins_of_a_class(tmp_path: Path) -> None:
    proof = by_kind("intervals").proof
    one = np.zeros(CLASSES - 1, dtype=np.int64)
    (tmp_path / "network.onnx").write_bytes(network_file())
    for name in range(CLASSES):  # also the class that is second: it wins against the third one
        tree = replace(leaf_only(np.arange(CLASSES - 1)), any_row=True)
        about = {**proof.about, "label": name}
        weak = replace(proof, about=about, rows=margins(name), groups=one, trees=(tree,))
        (tmp_path / f"{name}.proof").write_bytes(write_proof(weak))
    results = list(check_folder(tmp_path))
    assert [result.outcome for result in results] == [REJECTED] * CLASSES
    assert sum("one suffices" in result.reason for result in results) == CLASSES


def test_a_folder_with_proofs_of_each_kind(tmp_path: Path) -> None:
    (tmp_path / "network.onnx").write_bytes(network_file())
    (tmp_path / "attention.onnx").write_bytes(attention_file())
    for kind in KINDS:
        (tmp_path / f"{kind}.proof").write_bytes(write_proof(by_kind(kind).proof))
    assert [result.outcome for result in check_folder(tmp_path)] == [CHECKED] * len(KINDS)
    in_two = list(check_folder(tmp_path, jobs=2))
    assert [(result.file, result.outcome) for result in in_two] == [
        (name, CHECKED) for name in sorted(f"{kind}.proof" for kind in KINDS)
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"network": "0" * 64},
        {"network": None},
        {"label": 2},
        {"label": None},
        {"label": True},
        {"label": 99},
        {"perturbation": "linf 0.01"},
        {"perturbation": "linf 0.06"},
    ],
    ids=str,
)
def test_a_proof_that_says_it_is_about_something_else_is_rejected(
    tmp_path: Path, change: dict[str, object]
) -> None:
    (tmp_path / "network.onnx").write_bytes(network_file())
    proof = by_kind("walks").proof
    assert proof.about["label"] != change.get("label")
    changed = replace(proof, about={**proof.about, **change})
    (tmp_path / "one.proof").write_bytes(write_proof(changed))
    (result,) = check_folder(tmp_path)
    assert result.outcome == REJECTED


def test_a_network_with_one_changed_weight_is_another_network(tmp_path: Path) -> None:
    data = bytearray(network_file())
    place = data.index(np.float32(1.0).tobytes()) if np.float32(1.0).tobytes() in data else 400
    data[place] ^= 1
    (tmp_path / "network.onnx").write_bytes(bytes(data))
    (tmp_path / "one.proof").write_bytes(write_proof(by_kind("walks").proof))
    (result,) = check_folder(tmp_path)
    assert result.outcome == REJECTED
    assert "no network file" in result.reason


def test_a_network_that_cannot_be_read_is_refused_and_counted(tmp_path: Path) -> None:
    other = b"another file"
    (tmp_path / "network.onnx").write_bytes(other)
    proof = by_kind("walks").proof
    about = {**proof.about, "network": hashlib.sha256(other).hexdigest()}
    (tmp_path / "one.proof").write_bytes(write_proof(replace(proof, about=about)))
    (result,) = check_folder(tmp_path)
    assert result.outcome == "refused"
    with pytest.raises(Refused):
        read_network(other)


def test_parts_of_a_split_share_their_number() -> None:
    # there is one number for both parts, so that a gap of one ulp cannot be written: moving it
    # moves both parts, and the proof stands or falls with its bounds
    proved = by_kind("inputs")
    number = largest(proved.proof)
    tree = proved.proof.trees[number]
    node = int(np.flatnonzero(tree.kind == INPUT)[0])
    moved = tree.at.copy()
    moved[node] = np.nextafter(moved[node], 1)
    assert proved.accepts(with_tree(proved.proof, number, at=moved))
    assert tree.at.shape == tree.kind.shape
    assert len(proved.proof.lower) == INPUTS


def test_what_was_written_is_read() -> None:
    proof = by_kind("relus").proof
    again = read_proof(write_proof(proof))
    check(again, by_kind("relus").network)
    assert again.about == proof.about
    assert np.array_equal(again.lower, proof.lower)
    assert [tree.kind.tolist() for tree in again.trees] == [t.kind.tolist() for t in proof.trees]
