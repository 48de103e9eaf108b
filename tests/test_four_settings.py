"""A test that fails under one of the settings alone is named with that setting."""

import subprocess
import sys
from pathlib import Path

TEST = """
import os

def test_anything():
    seen = [os.environ[name] for name in ("TF_ENABLE_ONEDNN_OPTS", "TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")]
    with open("seen", "a") as file:
        file.write("".join(seen) + "\\n")
    assert seen != ["0", "1", "1"]
"""


def test_the_setting_that_failed_is_named(tmp_path):
    (tmp_path / "test_one.py").write_text(TEST)
    command = [sys.executable, Path(__file__).with_name("four_settings.py"), "-p", "no:cacheprovider", "test_one.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (tmp_path / "seen").read_text().split() == ["111", "122", "011", "022"]
    assert done.returncode == 1 and done.stdout.splitlines()[-1] == "Failed: oneDNN off, threads 1"
