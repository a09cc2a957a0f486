"""SageMaker's own client in an environment of its own, built once, so that its dependencies and ours do not meet."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from services.support import Unavailable

VERSION = "2.257.7"
_PEER = Path(__file__).with_name("sagemaker_peer.py")
_OPT_OUT = "SchemaVersion: '1.0'\nSageMaker:\n  PythonSDK:\n    Modules:\n      TelemetryOptOut: true\n"


def client() -> Path:
    """Return the environment's folder; build it where it is not there.

    Raises:
        Unavailable: the package cannot be installed here.
    """
    folder = Path(tempfile.gettempdir(), f"beam_ml-sagemaker-{VERSION}")
    if not (folder / "ready").exists():
        pip = [str(folder / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        steps = [
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            [*pip, f"sagemaker=={VERSION}", "scipy"],
        ]
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True, timeout=1200)
            if done.returncode:
                reason = f"sagemaker=={VERSION} cannot be installed: {done.stderr.strip()[-300:]}"
                raise Unavailable(reason)
        (folder / "config.yaml").write_text(_OPT_OUT, encoding="utf-8")
        (folder / "ready").touch()
    return folder


def asked(*words: str | Path) -> dict[str, Any]:
    """Run `sagemaker_peer.py`, its telemetry off; return what it says."""
    folder = client()
    settings = {
        "SAGEMAKER_USER_CONFIG_OVERRIDE": str(folder / "config.yaml"),
        "SAGEMAKER_ADMIN_CONFIG_OVERRIDE": str(folder / "config.yaml"),
        "SAGEMAKER_SUPPRESS_V2_WARNING": "1",
        "OMP_NUM_THREADS": "1",
    }
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | settings
    command = [str(folder / "bin" / "python"), str(_PEER), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
