"""Linear models by additive Newton steps."""
