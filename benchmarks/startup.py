"""How long a user waits before anything happens: `pgc-graph --help` and `import pgc_graph`, against bare Python."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 15
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import pgc_graph": [sys.executable, "-c", "import pgc_graph"],
    "import pgc_graph; load": [sys.executable, "-c", "import pgc_graph; pgc_graph.load"],
    "pgc-graph --help": [str(Path(sys.executable).with_name("pgc-graph")), "--help"],
    "pgc-graph fold-bn --help": [str(Path(sys.executable).with_name("pgc-graph")), "fold-bn", "--help"],
}


def measure(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    # Interleaved, so that a busy moment of the machine falls on all of them.
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(RUNS):
        for name, command in COMMANDS.items():
            times[name].append(measure(command))
    bare = statistics.median(times["python -c pass"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:<26} {median:7.1f} ms   {median / bare:5.1f} x bare Python")


if __name__ == "__main__":
    main()
