"""Our cascade against α,β-CROWN: one machine, same files, same instances, same seconds for each.

    python benchmarks/against_abcrown.py all benchmarks/against_abcrown.yaml [--fresh]
    python benchmarks/against_abcrown.py images NETWORK --data mnist --epsilon 0.1 \
        --indices 0:1000 --timeout 60 --tuned mnist_conv_small
    python benchmarks/against_abcrown.py list INSTANCES.csv --indices ::4 --timeout 60 --tuned mlp
    python benchmarks/against_abcrown.py table

Each engine does all instances of a task in a process of its own, one engine after the other; which
side goes first alternates from task to task. α,β-CROWN gets every instance in its one-process CSV
mode, with its own defaults and with a configuration of abcrown_configs/, and may overrun as it
likes. Ours runs to each deadline, and once more with --give-up. --engines chooses some of them;
a task of a file may skip some.
What an engine gave is kept in --work, so a run that was stopped goes on there with the same
command; --fresh measures everything anew. Each run ends with a table: --out as Markdown, and what
was measured as JSON beside it; `all` tabulates its tasks, the others everything that is there.
Where the tool is not installed, its side is taken from that JSON. The page says whether all rows
are of one run. To keep both sides to a core, start this with `taskset -c 0`.
"""

from __future__ import annotations

from against.command import main

if __name__ == "__main__":
    main(__doc__.split("\n\n")[0])
