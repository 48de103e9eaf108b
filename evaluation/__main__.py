"""`python -m evaluation PROTOCOL --dataset SET`: runs a protocol and writes its results; `results` renders the pages."""

import os
import signal
import sys

# Before TensorFlow is imported, which without AVX-512 computes without oneDNN, up to twice as slowly.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from evaluation.runner.command import main

if __name__ == "__main__":
    # Ended from outside, as by `kill`, Python would leave the processes behind that it has begun.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    main()
