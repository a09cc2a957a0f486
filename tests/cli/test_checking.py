"""`beam-ml train --check` of jobs over Kafka: columns that the given schema lacks are one sentence, before a broker is asked."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from beam_ml.cli import main

INNER = {"type": "record", "name": "c", "fields": [{"name": "age", "type": "int"}]}
SCHEMA = {
    "type": "record",
    "name": "r",
    "fields": [{"name": "amount", "type": "double"}, {"name": "customer", "type": INNER}],
}


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("customer.age", "localhost:1"),
        ("customer.agee", "column 'customer.agee'; got ['amount', 'customer.age']"),
        ("kafka.timestamp", "localhost:1"),
    ],
)
def test_columns_of_a_given_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: str, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("schema.avsc").write_text(json.dumps(SCHEMA))
    Path("job.toml").write_text(
        'name = "n"\nregistry = "r"\n[source]\nkind = "kafka"\nbrokers = "localhost:1"\ntopic = "t"\nformat = "avro"\ntimeout = 1\n'
        f'[source.options]\nschema_file = "schema.avsc"\n[features]\nnumeric = ["amount", "{column}"]\n'
        '[spec]\nalgorithm = "pca"\n[models.small]\nkind = "components"\nn_components = 1\n'
    )
    done = CliRunner().invoke(main, ["train", "job.toml", "--check", "--json"])
    assert done.exit_code == 1, done.output
    assert words in " ".join(done.output.split())
