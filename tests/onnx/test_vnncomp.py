"""Every network of VNN-COMP that lies beside the repository is read and agrees with onnxruntime."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from verify_pipeline.onnx import check, network_from_bytes

# Networks in each archive, of which at most the first few are read here.
SETS = {
    "2021_cifar10_resnet": 2,
    "2021_marabou-cifar10": 3,
    "2021_test": 5,
    "2022_acasxu": 45,
    "2022_mnist_fc": 3,
    "2022_rl_benchmarks": 3,
    "2022_sri_resnet_a": 1,
    "2023_dist_shift": 3,
    "2023_vit": 2,
}


@pytest.mark.parametrize("name", SETS)
def test_networks_agree_with_onnxruntime(name: str, shared_data: Path) -> None:
    archive = shared_data / "vnncomp" / f"vnncomp_{name}.tar.xz"
    if not archive.is_file():
        pytest.skip(f"{archive.name} is not there")
    found = 0
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name.endswith(".onnx") and (file := tar.extractfile(member)) is not None:
                network = network_from_bytes(file.read(), Path(member.name), check_parity=False)
                assert check(network, member.name) <= 1e-4
                found += 1
    assert found == SETS[name]
