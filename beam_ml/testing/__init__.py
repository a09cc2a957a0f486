"""Check an algorithm of your own against the laws: `check_algorithm(ALGORITHM, spec)`."""

from beam_ml.testing.codec import ARRAYS, Codec
from beam_ml.testing.laws import LAWS, check_algorithm, laws_for

__all__ = ["ARRAYS", "LAWS", "Codec", "check_algorithm", "laws_for"]
