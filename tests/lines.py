"""Lines of text for the jobs that learn words and topics: the paragraphs that Python's own help consists of."""

import json
from pathlib import Path
from pydoc_data.topics import topics

from beam_ml.beam.job import load_job
from beam_ml.beam.rounds import train
from beam_ml.registry import Registry

JOBS = Path(__file__).parents[1] / "pipelines" / "jobs"


def write_lines(folder: Path, most: int) -> int:
    """Write so many paragraphs of fifteen words or more; return how many there are."""
    paragraphs = [one.split() for text in topics.values() for one in text.split("\n\n")]
    kept = [" ".join(words) for words in paragraphs if len(words) >= 15][:most]
    folder.mkdir(parents=True)
    (folder / "lines.jsonl").write_text("\n".join(json.dumps({"line": line}) for line in kept), encoding="utf-8")
    return len(kept)


def learn_words(most: int = 100) -> None:
    """Learn the words of lines in the working folder as the shipped job does."""
    write_lines(Path("data/lines"), most)
    job = load_job(JOBS / "words.toml")
    assert [one.manifest.number for one in train(job, Registry(job.registry))] == [1]
