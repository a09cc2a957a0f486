"""Run one observed stream until killed: `python -m soak.watch_stream '<json>'` (in integration/).

The JSON holds `options` (Beam's), `source`, `folder`, `window_s`, and where wanted `shards`, and `starts`, `seen` and
`splits` of the source. A stream has a process of its own, so that what an engine's end does to its workers ends with it.
"""

import json
import os
import sys
from pathlib import Path

from soak.stream_rig import watch

from beam_ml.beam.job.sources import KafkaSource
from beam_ml.beam.kafka.stream.source import ReadKafkaStream


def _by_partition(given: dict[str, object] | None) -> dict[int, object]:
    return {int(partition): value for partition, value in (given or {}).items()}


def main() -> None:
    """Start the stream and stay until it ends, or this process is killed."""
    given = json.loads(sys.argv[1])
    read = ReadKafkaStream(
        KafkaSource.parse(given["source"]),
        _by_partition(given.get("starts")),
        _by_partition(given.get("seen")),
        given.get("splits", 1),
    )
    result = watch(read, given["options"], Path(given["folder"]), given["window_s"], given.get("shards", 1))
    state = result.wait_until_finish()
    print(f"the stream ended: {state}", flush=True)
    os._exit(1)


if __name__ == "__main__":
    main()
