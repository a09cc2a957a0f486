"""The first compile on a machine says so, once; the next process, which finds the cache, is silent."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = "import beam_ml.kernels.shared.moves, beam_ml.kernels.shared.sparse"


def imported(cache: Path, code: str = CODE) -> str:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_first_compile_says_so_and_the_next_process_is_silent(tmp_path: Path) -> None:
    first = imported(tmp_path)
    assert first.count("Compiling kernels for this machine") == 1
    assert str(tmp_path) in first
    assert imported(tmp_path) == ""


def test_kernels_of_others_are_none_of_its_business(tmp_path: Path) -> None:
    code = "import numba, beam_ml.kernels.compiling as c; c.listen(); numba.njit(lambda x: x + 1)(1)"
    assert imported(tmp_path, code) == ""
