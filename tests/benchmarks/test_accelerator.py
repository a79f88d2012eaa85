"""`benchmarks/accelerator.py` in small on the CPU: each part, and what becomes of a failing one."""

import re
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerating import command, cuda_tests, requirements
from accelerating.certification import certification
from accelerating.environment import environment
from accelerating.job import Job, Record
from accelerating.packing import pack
from accelerating.page import page
from accelerating.parts import PARTS, limit
from accelerating.sizes import SMALL
from accelerating.step_times import step_times, variant_times
from accelerating.training import NETWORK, training

from verify_pipeline import api
from verify_pipeline.data import ImageSet
from verify_pipeline.network import zoo
from verify_pipeline.training import checkpoint

PLENTY = 600.0


def images(split: str, count: int) -> ImageSet:
    generator = torch.Generator().manual_seed(count)
    pixels = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 10, (count,), generator=generator)
    return ImageSet("cifar10", split, pixels, labels, 10)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packed") / "images"
    pack(path, [images("train", 32), images("test", 6)])
    return path


def job(packed: Path, work: Path, seconds: float = PLENTY) -> Job:
    return Job(torch.device("cpu"), SMALL, packed, work, time.monotonic() + seconds)


def test_the_environment_is_told(packed: Path, tmp_path: Path) -> None:
    record = Record(tmp_path / "environment.json")
    environment(job(packed, tmp_path), record)
    facts = {row["fact"]: row["value"] for row in record.rows}
    assert torch.__version__ in facts["torch"]
    assert "cpu" in facts["device"]
    assert Record.read(record.path) == record


def test_tests_are_counted(packed: Path, tmp_path: Path) -> None:
    record = Record(tmp_path / "tests.json")
    cuda_tests.cuda_tests(job(packed, tmp_path), record)
    assert not record.error
    (row,) = record.rows
    assert row["tests"] == "tests.data.test_image_set"
    ran = "passed" if torch.cuda.is_available() else "skipped"
    assert row == {"tests": row["tests"], "passed": 0, "failed": 0, "skipped": 0, ran: 1}


def test_failures_are_named(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(
        "<testsuites><testsuite>"
        '<testcase classname="tests.a" name="one[cuda]"/>'
        '<testcase classname="tests.a" name="two[cuda]"><failure message="x"/></testcase>'
        '<testcase classname="tests.b" name="three[cuda]"><skipped/></testcase>'
        "</testsuite></testsuites>"
    )
    record = Record(tmp_path / "tests.json")
    cuda_tests._count(report, record)
    assert record.rows[0] == {"tests": "tests.a", "passed": 1, "failed": 1, "skipped": 0}
    assert record.remarks == ["1 passed, 1 failed.", "Failed: tests.a::two[cuda]"]


def test_files_with_tests_for_cuda_are_found() -> None:
    found = cuda_tests.files(replace(SMALL, test_files=()))
    assert "tests/data/test_image_set.py" in found
    assert "tests/training/test_step_reads.py" in found
    assert not any("benchmarks" in name for name in found)


def test_steps_are_timed(packed: Path, tmp_path: Path) -> None:
    record = Record(tmp_path / "steps.json")
    small = replace(SMALL, batches=(2,), losses=("mtl-ibp", "crown-ibp"))
    step_times(replace(job(packed, tmp_path), sizes=small), record)
    assert [row.get("error") for row in record.rows] == [None] * 5
    first, *_, last = record.rows
    assert (first["loss"], first["arithmetic"], first["memory"]) == (
        "mtl-ibp",
        "TF32",
        "channels last",
    )
    assert first["images a second"] == pytest.approx(2 / first["step (ms)"] * 1e3)
    assert first["step / plain"] > 0
    assert first["authors' / step"] > 0
    assert last["loss"] == "crown-ibp"
    assert last["step / plain"] > 0
    assert last["authors' / step"] is None
    assert torch.get_float32_matmul_precision() == "highest"


def test_cases_without_time_are_counted(packed: Path, tmp_path: Path) -> None:
    record = Record(tmp_path / "steps.json")
    step_times(job(packed, tmp_path, seconds=-1.0), record)
    assert record.rows == []
    assert record.remarks[-1] == "10 cases were left out: their time was over."


def test_variants_that_cannot_run_are_told(packed: Path, tmp_path: Path) -> None:
    record = Record(tmp_path / "variants.json")
    variant_times(replace(job(packed, tmp_path), sizes=replace(SMALL, batches=(2,))), record)
    errors = {row["variant"]: row.get("error", "") for row in record.rows}
    graphs = ["CUDA graph", "CUDA graph, attack in bfloat16"]
    assert [name for name, error in errors.items() if error] == graphs
    assert "expected a CUDA device" in errors["CUDA graph"]


class TestTraining:
    def test_it_ends_in_time_and_is_continued(self, packed: Path, tmp_path: Path) -> None:
        record = Record(tmp_path / "training.json")
        training(job(packed, tmp_path, seconds=5.0), record)  # fewer than are kept for the file
        assert [row["epoch"] for row in record.rows] == [1]
        assert "1 of 160 epochs are done" in record.remarks[0]
        assert "32 of 50,000 training images" in record.remarks[0]
        assert (tmp_path / NETWORK).is_file()
        again = Record(tmp_path / "again.json")
        training(job(packed, tmp_path, seconds=5.0), again)
        assert [row["epoch"] for row in again.rows] == [2]
        assert checkpoint.read_progress(tmp_path / "training")[0].epoch == 2


class TestCertification:
    def test_needs_a_network(self, packed: Path, tmp_path: Path) -> None:
        with pytest.raises(api.VerifyPipelineError, match="Run the part training first"):
            certification(job(packed, tmp_path), Record(tmp_path / "certification.json"))

    def test_every_stage_has_a_row(self, tmp_path: Path) -> None:
        torch.manual_seed(1)
        module = zoo.build("conv-small", (3, 32, 32), 10, (0.5,) * 3, (0.2,) * 3, 0.1).eval()
        given = images("test", 6)
        named = ImageSet("cifar10", "test", given.images, module(given.pixels()).argmax(1), 10)
        pack(tmp_path / "images", [named])
        api.export_onnx(module, tmp_path / NETWORK, input_shape=(3, 32, 32))
        record = Record(tmp_path / "certification.json")
        certification(job(tmp_path / "images", tmp_path, seconds=20.0), record)
        stages = [row["stage"] for row in record.rows]
        assert stages[:3] == ["clean", "ibp", "attack"]
        assert record.rows[0]["images"] == 6
        decided = sum(row["verified"] + row["falsified"] + row["unknown"] for row in record.rows)
        assert decided == 6
        assert all(row["images a second"] > 0 for row in record.rows)


class TestCommand:
    @pytest.fixture(autouse=True)
    def _one_thread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(self, monkeypatch: pytest.MonkeyPatch, *typed: str) -> int:
        monkeypatch.setattr(sys, "argv", ["accelerator.py", *typed])
        try:
            command.main("")
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    def test_a_failing_part_is_told_and_the_next_one_runs(
        self, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
    ) -> None:
        typed = ["--device", "cpu", "--sizes", "small", "--data", str(packed)]
        typed += ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
        (tmp_path / "work").mkdir()
        parts = ["--parts", "certification", "environment"]
        assert self.run(monkeypatch, *typed, *parts) == 2
        told = capsys.readouterr()
        assert "error: parts that failed: certification" in told.err
        text = (tmp_path / "out" / "report.md").read_text()
        assert f"torch | {torch.__version__}" in text
        assert "**Ended with an error:** ConfigError: network" in text
        assert "Traceback" not in told.out + told.err

    def test_a_part_that_takes_too_long_keeps_its_rows(
        self, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        typed = ["--device", "cpu", "--sizes", "small", "--data", str(packed), "--minutes", "0.01"]
        typed += ["--work", str(tmp_path), "--out", str(tmp_path / "out"), "--parts", "environment"]
        assert self.run(monkeypatch, *typed) == 2
        record = Record.read(tmp_path / "out" / "environment.json")
        assert record.error is not None
        assert re.fullmatch(r"not done after [01] s; rows so far are kept", record.error)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")
    def test_without_cuda_one_message_says_what_was_found(
        self, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
    ) -> None:
        out = tmp_path / "out"
        assert self.run(monkeypatch, "--data", str(packed), "--out", str(out)) == 2
        told = capsys.readouterr().err
        assert torch.__version__ in told
        assert "--device cpu --sizes small" in told
        assert not out.exists()

    @pytest.mark.parametrize(
        ("typed", "message"),
        [
            (["--minutes", "0"], "--minutes; expected a number > 0"),
            (["--device", "abacus"], "--device; expected cuda or cpu"),
            (["--continue", "nowhere"], "expected a checkpoint of the part training"),
        ],
    )
    def test_mistakes_are_told(
        self, typed: list[str], message: str, packed: Path, monkeypatch: pytest.MonkeyPatch, capsys
    ) -> None:
        assert self.run(monkeypatch, "--device", "cpu", "--data", str(packed), *typed) == 2
        assert message in capsys.readouterr().err

    def test_packing_is_a_command(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
    ) -> None:
        monkeypatch.setattr(command.data, "load", lambda name, split, root: images(split, 9))
        out = tmp_path / "images"
        assert self.run(monkeypatch, "pack", "--out", str(out), "--train", "5", "--test", "3") == 0
        assert "5 train and 3 test images" in capsys.readouterr().out
        assert out.is_file()


def test_parts_share_the_time_that_is_left() -> None:
    chosen = list(PARTS)
    assert sum(limit(name, chosen, 1.0) > 0 for name in chosen) == len(chosen)
    left, spent = 720.0, []
    for name in chosen:
        spent.append(limit(name, chosen, left))
        left -= spent[-1]
    assert left == pytest.approx(0)
    assert limit("training", ["training"], 600.0) == 600.0


def test_the_page_has_the_ends_of_a_long_training(tmp_path: Path) -> None:
    record = Record(tmp_path / "x", [{"epoch": n, "loss": None} for n in range(1, 31)], ["End."])
    text = page("command", "abc", {"training": record})
    assert "| 4 | – |\n| 23 | – |" in text
    assert text.rstrip().endswith("* End.")


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert requirements.missing() == []
    monkeypatch.setattr(requirements, "_is_there", lambda name: name not in ("pydantic", "PyYAML"))
    assert requirements.missing() == ["pydantic", "PyYAML"]


@pytest.fixture(autouse=True)
def _settings_of_torch() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    assert torch.get_float32_matmul_precision() == before
