"""What importing modules costs in a fresh process: `bench_import.py flock`, with every public name looked up."""

import json
import resource
import sys
import time
from importlib import import_module


def main(names: list[str]) -> None:
    """Import the modules and print one line of JSON; the interpreter's own start is included."""
    faults: list[str] = []
    for name in names:
        module = import_module(name)
        if not module.__file__:
            faults.append(f"{name} is not a module but an empty place")
        for public in getattr(module, "__all__", ()):
            getattr(module, public)
    cpu = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)
    print(json.dumps({"cpu_seconds": round(cpu, 4), "peak_mb": round(peak, 1), "faults": faults}))


if __name__ == "__main__":
    main(sys.argv[1:])
