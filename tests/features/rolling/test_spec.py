"""Settings of rolling windows: JSON and back, names of outputs, and one sentence for what is refused."""

import json
import tomllib
from typing import Any

import pytest

from beam_ml.errors import InvalidValue
from beam_ml.features.rolling import FUNCTIONS, Rolling

TOML = """
time = { column = "ts", unit = "ms" }
lateness = "10m"

[[aggregates]]
key = ["card", "shop"]
of = "sum"
value = "amount"
windows = ["90m", { length = "7d", delay = "36h" }]

[[aggregates]]
key = "card"
of = "top_k"
value = "shop"
k = 2
windows = ["1.5s"]

[[aggregates]]
key = "card"
of = "distinct"
value = "shop"
kind = "sawtooth"
windows = [3600]
"""


def test_settings_come_from_toml_and_go_to_json_and_back() -> None:
    one = Rolling.parse(tomllib.loads(TOML))
    assert one.names == (
        "sum_amount_by_card_shop_90m",
        "sum_amount_by_card_shop_7d_delay_36h",
        "top_k_shop_by_card_1500ms_1",
        "top_k_shop_by_card_1500ms_2",
        "distinct_shop_by_card_sawtooth_1h",
    )
    assert Rolling.parse(json.loads(one.to_json())) == one
    assert one.keys == (("card", "shop"), ("card",))
    assert one.columns() == ["ts", "card", "shop", "amount"]
    assert (one.n_states, one.lateness_us) == (16, 600 * 10**6)
    assert one.key_of(15) == ("card",)


def test_groups_are_those_that_can_be_subtracted() -> None:
    assert {name for name, one in FUNCTIONS.items() if one.is_group} == {
        "count", "sum", "mean", "ratio", "variance", "share",
    }  # fmt: skip


COUNT = {"key": "card", "of": "count", "windows": ["1d"]}


@pytest.mark.parametrize(
    ("aggregates", "message"),
    [
        ([], r"^Rolling\.aggregates must list at least one; got \[\]\.$"),
        (
            [{**COUNT, "of": "median"}],
            r"^Rolling\.aggregates\.of must be one of 'count', .*; got 'median'\. Did you mean 'mean'\?$",
        ),
        ([{**COUNT, "of": "sum"}], r"^Rolling\.aggregates\.value must name the column that sum is of\.$"),
        ([{**COUNT, "windows": []}], r"^Rolling\.aggregates\.windows must list at least one; got \[\]\.$"),
        ([{**COUNT, "windows": ["1 moon"]}], r"must be a duration such as .*; got '1 moon'"),
        ([{**COUNT, "windows": ["0s"]}], r"must be > 0; got '0s'\.$"),
        ([{**COUNT, "windows": [1e-8]}], r"must be at least 1 µs; got 1e-08\.$"),
        ([{**COUNT, "windows": [{"length": "1d", "delay": "-1d"}]}], r"must be a duration"),
        ([{**COUNT, "windows": [{"length": 8e12, "delay": 8e12}]}], r"must not reach further back than 9e\+12 s"),
        ([{**COUNT, "of": "share", "value": "shop"}], r"category must be given for share"),
        ([{**COUNT, "category": 1}], r"category must be given for share, and for nothing else; got 1 for count"),
        ([{**COUNT, "key": ["card", "card"]}], r"key must name no column twice; got \['card', 'card'\]\.$"),
        ([{**COUNT, "key": []}], r"^Rolling\.aggregates\.key must list at least one; got \[\]\.$"),
        ([{**COUNT, "of": "top_k", "value": "shop", "kind": "sawtooth"}], r"kind must be 'exact' for top_k"),
        ([{**COUNT, "known": "at", "kind": "sawtooth"}], r"kind must be 'exact' with known"),
        ([{**COUNT, "known": "at", "dated": "of"}], r"dated and known must not both be given"),
        ([{**COUNT, "of": "time_since_last", "dated": "of"}], r"dated must not be given for time_since_last"),
        ([{**COUNT, "of": "ratio", "value": "x", "dated": "of"}], r"dated and known must not be given for ratio"),
        ([{**COUNT, "of": "top_k", "value": "shop", "empty": 0}], r"empty must not be given for top_k"),
        ([COUNT, COUNT], r"outputs of different names; got \['count_by_card_1d'\] twice"),
        ([{**COUNT, "name": "card", "windows": ["1d"]}, {**COUNT, "key": "card_1d"}], r"outputs that are no columns"),
        ([{**COUNT, "windows": list(range(1, 4_200))}], r"at most 4,096 outputs; got 4,199"),
    ],
)
def test_what_is_refused_is_said_in_one_sentence(aggregates: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        Rolling(time="ts", aggregates=aggregates)
