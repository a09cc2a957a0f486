"""Who publishes what on top of what."""
