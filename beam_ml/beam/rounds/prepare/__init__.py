"""Raw rows on their way to a learner: rolling features, a score, the wait for a label. In the trainer's own process."""
