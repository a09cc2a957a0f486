"""A worker of Beam's external pool that knows beam_ml's coders before its first bundle: the program `beam-ml-worker`.

    python -m apache_beam.runners.worker.worker_pool_main --service_port=50000 --container_executable=beam-ml-worker

The pool's own workers import nothing but Beam, and a bundle that begins with data of ours would fail there. Beam's
containers import what a pipeline names (`coders.install`), and need no such program.
"""

import click
from apache_beam.runners.worker.sdk_worker import SdkHarness

import beam_ml.beam.wire.coders  # noqa: F401 registers them

__all__ = ["main"]


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--id", "worker_id", required=True, help="what the engine calls this worker")
@click.option("--control_endpoint", required=True, help="where the engine sends instructions, host:port")
@click.argument("rest", nargs=-1, type=click.UNPROCESSED)
def main(worker_id: str, control_endpoint: str, rest: tuple[str, ...]) -> None:
    """Work for an engine until it ends the work; the pool passes the options."""
    del rest  # endpoints for logs and artifacts: the engine passes both to the harness, or it needs neither
    SdkHarness(control_endpoint, worker_id=worker_id).run()


if __name__ == "__main__":
    main()
