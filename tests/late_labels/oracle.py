"""What a join must do, said again in the plainest way: one event after the other, with a queue of deadlines."""

import heapq
from collections import Counter


def oracle(spec, rows, reports):
    """rows: (id, time, value); reports: (id, time, label). Returns what is emitted, and counts."""
    queue, serial = [], 0
    for name, time, value in rows:
        queue.append((time, 1, name, value, "row"))
    for name, time, label in reports:
        queue.append((time, 2, name, label, "report"))
    heapq.heapify(queue)
    known, early, emitted, counts = {}, {}, [], Counter()

    def emit(name, time, label, at, weight=1.0, correction=0):
        nonlocal serial
        emitted.append((at, time, name, serial, known[name]["value"], label, weight, correction))
        serial += 1

    def correct(name, label, at, reason):
        row = known[name]
        counts[reason] += 1
        if spec.corrections == "pair":
            emit(name, row["time"], row["label"], at, -1.0, -1)
        if spec.corrections != "count":
            emit(name, row["time"], label, at, 1.0, 1)
        row["label"], row["status"] = label, "labelled"

    def report(name, label, at):
        row = known[name]
        if row["status"] == "waiting":
            counts["labelled"] += 1
            row["label"], row["status"] = label, "labelled"
            emit(name, row["time"], label, at)
        elif row["status"] == "dropped":
            counts["labelled after maturity"] += 1
            counts["report after maturity"] += 1
            row["label"], row["status"] = label, "labelled"
            emit(name, row["time"], label, at)
        elif row["label"] == label:
            counts["report repeats what is known"] += 1
        else:
            correct(
                name,
                label,
                at,
                "report disagrees with another" if row["status"] == "labelled" else "report after maturity",
            )

    while queue:
        time, _, name, value, kind = heapq.heappop(queue)
        if kind == "row":
            counts["rows"] += 1
            if name in known:
                counts["duplicate row"] += 1
                continue
            known[name] = {"time": time, "value": value, "status": "waiting", "label": None}
            heapq.heappush(queue, (time + spec.maturity_us, -1, name, value, "due"))
            heapq.heappush(queue, (time + spec.maturity_us + spec.memory_us, 0, name, value, "forget"))
            for at, label in sorted(early.pop(name, [])):
                if at + spec.ahead_us < time:
                    counts["report without a row"] += 1
                else:
                    counts["report before its row"] += 1
                    report(name, label, time)
        elif kind == "report":
            counts["reports"] += 1
            if name in known:
                report(name, value, time)
            else:
                early.setdefault(name, []).append((time, value))
        elif kind == "due":
            if known[name]["status"] == "waiting":
                row = known[name]
                if spec.unreported == "drop":
                    row["status"] = "dropped"
                    counts["dropped"] += 1
                else:
                    row["status"], row["label"] = "unreported", spec.unreported
                    counts["unreported"] += 1
                    emit(name, row["time"], spec.unreported, time)
        else:
            del known[name]
    counts["report without a row"] += sum(map(len, early.values()))
    return [one[:3] + one[4:] for one in sorted(emitted, key=lambda one: one[:4])], +counts
