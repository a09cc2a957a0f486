"""Complete algorithms to copy from; each lives outside `ALGORITHMS` and keeps every law."""
