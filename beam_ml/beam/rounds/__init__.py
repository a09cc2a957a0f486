"""Rounds: one bounded pipeline over the next slice of the source, then one publish, again and again."""

from beam_ml.beam.rounds.driver import Mode, Round, train

__all__ = ["Mode", "Round", "train"]
