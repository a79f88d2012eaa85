"""Code that runs inside α,β-CROWN: two small Python files that its configuration names.

They are kept as text because they import the tool's own modules, which are not available here.
"""

from __future__ import annotations

SAVER_FILE, LOADER_FILE, MODULES_FILE = "save_point.py", "load_network.py", "modules.json"

SAVER = '''"""Keeps each counterexample in a file of its own, by its instance's place."""

import os

import arguments


def save(inputs, outputs, path):
    folder = os.path.join(os.path.dirname(path), "counterexamples")
    os.makedirs(folder, exist_ok=True)
    values = inputs[0].detach().cpu().double().flatten().tolist()
    lines = [f"(X_{place} {value!r})" for place, value in enumerate(values)]
    file = os.path.join(folder, f"{arguments.Globals['example_idx']}.txt")
    with open(file + ".new", "w") as out:
        out.write("(" + "\\n".join(lines) + ")\\n")
    os.replace(file + ".new", file)
'''
"""Called with each counterexample: inputs and outputs as ``1 x …`` tensors."""

LOADER = '''"""Reads a network and a property; lets no network pass that onnxruntime disagrees with.

First as the tool does it by itself. Where that fails, or computes something else, as the
module of the same network that lies beside, if there is one.
"""

import gzip
import importlib.util
import json
import os

import numpy
import onnxruntime
import torch
from loading import default_onnx_and_vnnlib_loader
from read_vnnlib import read_vnnlib

POINTS, TOLERANCE = 4, 1e-4


def load(root, onnx_path, vnnlib_path):
    with open(os.path.join(root, "modules.json")) as file:
        module = json.load(file).get(onnx_path)
    problems = []
    for way in (of_the_tool, of_the_module):
        try:
            network, shape, vnnlib = way(root, onnx_path, vnnlib_path, module)
            check(os.path.join(root, onnx_path), network, shape, vnnlib)
        except Exception as error:
            problems.append(f"{way.__name__}: {type(error).__name__}: {error}")
            print(problems[-1])
        else:
            print("network as", way.__name__)
            return network, shape, vnnlib
    raise RuntimeError("network not loaded; " + "; ".join(problems))


def of_the_tool(root, onnx_path, vnnlib_path, module):
    return default_onnx_and_vnnlib_loader(root, onnx_path, vnnlib_path)


def of_the_module(root, onnx_path, vnnlib_path, module):
    if module is None:
        raise RuntimeError("there is none")
    spec = importlib.util.spec_from_file_location("network", module)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    vnnlib = read_vnnlib(os.path.join(root, vnnlib_path))
    return loaded.Network().eval(), (-1, *loaded.SHAPE), vnnlib


def check(path, network, shape, vnnlib):
    """Refuse a network whose outputs at points of the first box are not onnxruntime's."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
        content = file.read()
    plain = path if not path.endswith(".gz") else content
    session = onnxruntime.InferenceSession(plain, options, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    sizes = [n if isinstance(n, int) and n > 0 else 1 for n in entry.shape]
    dtype = numpy.float64 if "double" in entry.type else numpy.float32
    low, high = torch.tensor(vnnlib[0][0], dtype=torch.float64).T
    generator = torch.Generator().manual_seed(0)
    share = torch.rand(POINTS, len(low), generator=generator, dtype=torch.float64)
    points = (low + share * (high - low)).to(torch.float32)
    with torch.no_grad():  # as one batch, which the tool's attack and search make, too
        batch = points.to(torch.get_default_dtype()).reshape(POINTS, *shape[1:])
        outputs = network.cpu()(batch).double().reshape(POINTS, -1).numpy()
    for x, got in zip(points.numpy().astype(dtype), outputs):
        expected = session.run(None, {entry.name: x.reshape(sizes)})[0]
        expected = expected.astype(numpy.float64).flatten()
        if got.shape != expected.shape:
            raise RuntimeError(f"{got.size} outputs, onnxruntime has {expected.size}")
        difference = numpy.abs(got - expected).max()
        if not difference <= TOLERANCE * max(1e-2, numpy.abs(expected).max()):
            raise RuntimeError(f"outputs differ from onnxruntime's by {difference:.3g}")
'''
"""Called for each line of the list: network, its input's shape, and the tool's form of VNN-LIB."""
