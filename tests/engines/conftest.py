"""A stand-in for the tool: a script that does what a test's plan says, instance by instance."""

from collections.abc import Callable
from pathlib import Path

import pytest

from verify_pipeline.engines import Tool, find_tool

# Reads the list as the real one does, and keeps a results file of the same form.
FAKE = """
import csv, json, os, pickle, sys, time
import yaml

config_path = sys.argv[sys.argv.index("--config") + 1]
with open(config_path) as file:
    config = yaml.safe_load(file)
root = config["general"]["root_path"]
with open(os.path.join(root, config["general"]["csv_name"]), newline="") as file:
    rows = list(csv.reader(file))
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "plan.json")) as file:
    plan = json.load(file)
results, branched = [], []
for place, (onnx, vnnlib, seconds) in enumerate(rows):
    with open(os.path.join(root, vnnlib)) as file:
        first = file.readline().strip("; \\n")
    do = plan[first] if first in plan else plan[str(place)]
    if "say" in do:
        print(do["say"])
    if "sleep" in do:
        time.sleep(do["sleep"])
    if "exit" in do:
        sys.exit(do["exit"])
    if "kill" in do:
        os.kill(os.getpid(), do["kill"])
    if "write" in do:
        with open(config["general"]["results_file"], "wb") as file:
            file.write(bytes.fromhex(do["write"]))
        continue
    if "point" in do:
        folder = os.path.join(root, "counterexamples")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, f"{place}.txt"), "w") as file:
            file.write("(" + "".join(f"(X_{i} {v!r})" for i, v in enumerate(do["point"])) + ")")
    results.append([do["status"], 0.5])
    if "domains" in do:
        branched.append([place, 0.25, do["domains"], 0.1])
    with open(config["general"]["results_file"], "wb") as file:
        pickle.dump({"summary": {}, "results": results, "bab_ret": branched}, file)
"""


@pytest.fixture
def fake_tool(tmp_path: Path) -> Callable[[str], Tool]:
    """A function that makes the stand-in of a plan, JSON of first lines to what is done there."""

    def make(plan: str) -> Tool:
        home = tmp_path / "tool" / "complete_verifier"
        home.mkdir(parents=True)
        (home / "abcrown.py").write_text(FAKE, encoding="utf-8")
        (home / "__init__.py").write_text("__version__ = '9.9'\n", encoding="utf-8")
        (home / "plan.json").write_text(plan, encoding="utf-8")
        return find_tool(home.parent, environment={})

    return make
