"""How fast Flink's checkpoints grow under a stream: each bundle of the source leaves one more state name registered.

Prints one JSON line at the end.

    python -m soak.checkpoint_growth --minutes 10           (in integration/)
"""

import argparse
import contextlib
import json
import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from services.flink import flink
from services.kafka import kafka
from soak.stream_rig import Produced, closed_sums, lines, produce, source, wait_for, watch

from beam_ml.beam.kafka.stream.source import ReadKafkaStream


def checkpoint_bytes(folder: Path) -> int:
    """Return the size of a checkpoint; 0 where it is just being replaced."""
    try:
        return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    except FileNotFoundError:
        return 0


def main() -> None:
    """Run, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=50.0, help="messages/s of 100 rows; 0: none")
    parser.add_argument("--read-s", type=float, default=1.5)
    parser.add_argument("--pause-s", type=int, default=2)
    parser.add_argument("--window-s", type=float, default=5.0)
    parser.add_argument("--parallelism", type=int, default=1)
    parser.add_argument("--splits", type=int, default=1)
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="growth-", ignore_cleanup_errors=True)))
        brokers = stack.enter_context(kafka(folder / "kafka"))
        engine = stack.enter_context(flink(folder / "flink"))
        topic = brokers.create_topic("rows", partitions=2)
        made, stop = Produced(given.window_s), threading.Event()
        read = ReadKafkaStream(
            source(brokers.bootstrap, topic), splits=given.splits, read_s=given.read_s, pause_s=given.pause_s
        )
        options = engine.options(parallelism=given.parallelism, streaming=True)
        result = watch(read, options, folder / "out", given.window_s, shards=given.parallelism)
        time.sleep(5)
        producer = threading.Thread(
            target=produce,
            args=(brokers.bootstrap, topic, made, round(given.rate * 60 * given.minutes), given.rate or 1.0, 100, 0, 2),
            kwargs={"stop": stop},
        )
        producer.start()
        began, sizes = time.monotonic(), []
        jvm, python = psutil.Process(engine.pid), psutil.Process()
        while (at := time.monotonic() - began) < given.minutes * 60:
            newest = engine.newest_checkpoint()
            size = checkpoint_bytes(newest) if newest else 0
            if size:
                sizes.append((at / 60, size, jvm.memory_info().rss >> 20, python.memory_info().rss >> 20))
            time.sleep(5)
        stop.set()
        producer.join()
        wait_for(folder / "out", made.rows, 60)
        settled = [one for one in sizes if one[0] >= min(1.0, given.minutes / 3)]
        slope = float(np.polyfit([t for t, *_ in settled], [s for _, s, *_ in settled], 1)[0])
        closed = [line for line in lines(folder / "out") if not line["late"]]
        lag = [line["at"] - line["end"] / 1e6 for line in closed]
        gaps = np.diff(sorted({round(line["at"], 1) for line in closed}))
        print(
            json.dumps(
                {
                    **vars(given), "rows": made.rows, "exact": closed_sums(folder / "out") == made.sums,
                    "kb_per_minute": round(slope / 1024, 1), "first_kb": settled[0][1] >> 10,
                    "last_kb": settled[-1][1] >> 10, "lag_p50_s": round(float(np.quantile(lag, 0.5)), 1),
                    "lag_p95_s": round(float(np.quantile(lag, 0.95)), 1), "gap_max_s": round(float(gaps.max()), 1),
                    "jvm_mb": [settled[0][2], settled[-1][2]], "python_mb": [settled[0][3], settled[-1][3]],
                    "late_lines": sum(line["late"] for line in lines(folder / "out")), "state": result.state,
                }
            ),
            flush=True,
        )  # fmt: skip
        with contextlib.suppress(Exception):
            result.cancel()
    os._exit(0)  # the workers' threads would wait for an engine that is gone


if __name__ == "__main__":
    main()
