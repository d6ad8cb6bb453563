"""Counts what the processor executes for one activation, compiled code included: `instructions.py W1 W5`.

Needs valgrind. A figure is the difference between a small and a large run, so that what every process does once is not
in it; it does not depend on what else the machine does, and repeats to a hundredth.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

HERE = Path(__file__).parent
# Artifacts published in the small run and in the large one.
SIZES = {
    "W1": (200, 1_200),
    "W2": (2, 12),
    "W3": (2, 12),
    "W4": (1_000, 5_000),
    "W5": (100, 700),
    "W6": (200, 1_200),
    "W7": (20, 120),
    "LAT": (50, 250),
}
COUNT = ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")


def counted(script: str, workload: str, size: int) -> tuple[int, int]:
    """Run a workload once; gives the instructions of the process and its activations."""
    command = [*COUNT, sys.executable, str(HERE / script), workload, "--n", str(size)]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)  # noqa: S603 - our own
    found = re.search(r"I\s+refs:\s+([\d,]+)", done.stderr)
    if found is None:
        raise RuntimeError(f"valgrind said nothing of instructions: {done.stderr[-500:]}")
    return int(found[1].replace(",", "")), json.loads(done.stdout)["activations"]


def per_activation(script: str, workload: str) -> float:
    """Count the instructions of one activation."""
    with ThreadPoolExecutor(2) as pool:
        (few, ran), (many, ran_more) = pool.map(partial(counted, script, workload), SIZES[workload])
    return (many - few) / (ran_more - ran)


def main(workloads: list[str]) -> None:
    """Print a table, Flock's figures beside the baseline's."""
    if shutil.which("valgrind") is None:
        sys.exit("instructions.py needs valgrind")
    unknown = [name for name in workloads if name not in SIZES]
    if unknown:
        sys.exit(f"instructions.py counts {', '.join(SIZES)}, not {', '.join(unknown)}")
    for name in workloads or SIZES:
        raw, flock = (per_activation(f"bench_{each}.py", name) for each in ("raw", "flock"))
        print(f"{name:4} raw asyncio {raw:11,.0f}  flock {flock:11,.0f}  {flock / raw:5.2f}x", flush=True)


if __name__ == "__main__":
    main([name.upper() for name in sys.argv[1:]])
