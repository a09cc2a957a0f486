"""How many inputs an attack tries: a few in the suite, BEAM_ML_ATTACKS times as many in `make soak`."""

import os

EFFORT = int(os.environ.get("BEAM_ML_ATTACKS", "1"))
