"""A pool of processes beside the trainer's, which outlives rounds: each reads a part of a round, and learns it."""
