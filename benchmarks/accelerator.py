"""All that needs an accelerator, by one command, in a given time.

    python benchmarks/accelerator.py pack --data-root DATA --out cifar10.packed
    python benchmarks/accelerator.py --minutes 12 --data cifar10.packed --out results/accelerator

Parts, each a process with its share of the time: the device and the software (environment), tests
that ask for CUDA (tests), a step of CNN7 with each loss (steps), a training of CIFAR-10 that ends
with a checkpoint (training), the certification of what it trained (certification), and faster
variants of the step (variants). Results of each part are written when it ends: one JSON file each,
and report.md of all. A part that fails is told, and the next one runs. `--parts` chooses;
`--continue FOLDER` goes on with the training. A dry run: `--device cpu --sizes small`.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # it need not be installed

from accelerating.requirements import missing

if __name__ == "__main__":
    lacking = missing()
    if lacking:
        print(
            f"error: packages; expected all that setup.cfg names in {sys.executable}; got none of "
            f"{', '.join(lacking)}. Without a network, bring them as wheels: pip install --no-deps "
            "--no-index --target FOLDER *.whl, and put FOLDER into PYTHONPATH.",
            file=sys.stderr,
        )
        sys.exit(2)
    from accelerating.command import main

    main((__doc__ or "").split("\n\n")[0])
