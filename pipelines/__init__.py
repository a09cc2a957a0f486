"""Examples: the jobs in `jobs/`, and the commands of `beam-ml` as modules to run from a checkout and to copy from."""
