"""What each mechanism of the bounds and the search is worth: the same tasks with it and without.

    python benchmarks/ablations.py [TASKS.yaml] [--only NAME …] [--fresh | --table]

Every task is done with everything on, twice, and with each mechanism off in turn, in a process of
its own that has one thread. Deadlines are of processor time. A task in which a mechanism has no
part is not repeated without it. What was measured is kept in --work, so a run that was stopped goes
on there; --fresh measures it anew. Each run ends with docs/ablations.md. To keep it to a core,
start it with `taskset -c 0`.
"""

from __future__ import annotations

import time

# Deadlines are of processor time, so that other work on the machine decides nothing. The package
# takes its clock when it is imported.
time.perf_counter = time.process_time

from ablating.command import main  # noqa: E402

if __name__ == "__main__":
    main(__doc__.split("\n\n")[0])
