"""What each mechanism of the bounds and the search is worth: the same tasks with it and without.

    python benchmarks/ablations.py [TASKS.yaml] [--only NAME …] [--fresh | --table]

Every task is done with everything on, twice, and with each mechanism off in turn, in a process of
its own that has one thread. A task in which a mechanism has no part is not repeated without it.
What was measured is kept in --work, so a run that was stopped goes on there; --fresh measures it
anew. Each run ends with docs/ablations.md. To keep it to a core, start it with `taskset -c 0`.
"""

from __future__ import annotations

from ablating.command import main

if __name__ == "__main__":
    main(__doc__.split("\n\n")[0])
