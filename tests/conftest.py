"""Algorithms defined outside the package, importable by name as a user's own would be."""

import sys
from pathlib import Path

TOYS = str(Path(__file__).parent / "toy")
if TOYS not in sys.path:
    sys.path.insert(0, TOYS)
