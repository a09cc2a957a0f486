"""A topic as a stream that never ends; knows no learner."""
