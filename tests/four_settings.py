"""The tests with oneDNN on and off, on one thread and on two: `python tests/four_settings.py [arguments of pytest]`.

Each rounds its sums in another order. A test whose limit lies within the spread of what it measures fails under one of them.
"""

import itertools
import os
import subprocess
import sys
import time

SETTINGS = {
    f"oneDNN {'on' if onednn == '1' else 'off'}, threads {threads}": {
        "TF_ENABLE_ONEDNN_OPTS": onednn,
        # Within an operation. Of operations beside one another there are two: attacks beside a step need them.
        "TF_NUM_INTRAOP_THREADS": threads,
        "OMP_NUM_THREADS": threads,
    }
    for onednn, threads in itertools.product("10", "12")
}


def main(arguments):
    codes = {}
    for name, variables in SETTINGS.items():
        print(f"--- {name}", flush=True)
        started = time.perf_counter()
        codes[name] = subprocess.run([sys.executable, "-m", "pytest", *arguments], env=os.environ | variables).returncode
        print(f"--- {name}: {'passed' if codes[name] == 0 else 'FAILED'} in {time.perf_counter() - started:.0f} s", flush=True)
    failed = [name for name, code in codes.items() if code]
    print(f"Failed: {'; '.join(failed)}" if failed else "All four settings passed")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
