"""``python -m verify_checker DIR``: check the proofs of a folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from verify_checker.folder import REJECTED, check_folder, summary, write_results
from verify_checker.instances import read_instances


def main() -> int:
    """Exit code 0 where no proof is rejected; 2 where one is, or where nothing is there."""
    parser = argparse.ArgumentParser("verify_checker", description="Check robustness proofs.")
    parser.add_argument("folder", type=Path, help="with *.proof files")
    parser.add_argument(
        "--network", type=Path, action="append", default=[], help="ONNX file that is not in it"
    )
    parser.add_argument(
        "--instances", type=Path, help="VNN-COMP's list of instances that the proofs have to show"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    typed = parser.parse_args()
    missing = [path for path in (typed.folder, *typed.network) if not path.exists()]
    if missing or not typed.folder.is_dir() or typed.jobs < 1:
        parser.error(f"nothing at {missing[0]}" if missing else "expected a folder and jobs >= 1")
    try:
        instances = None if typed.instances is None else read_instances(typed.instances)
    except (OSError, ValueError) as error:
        parser.error(f"--instances: {error}")
    results = list(check_folder(typed.folder, typed.network, typed.jobs, instances))
    if not results:
        parser.error(f"no *.proof file in {typed.folder}")
    write_results(typed.folder, results)
    sys.stdout.write(summary(results, instances) + "\n")
    return 2 if any(result.outcome == REJECTED for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
