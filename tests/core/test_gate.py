import pytest

from beam_ml.core.gate import HISTORY, OPEN, Gate
from beam_ml.errors import InvalidValue


def test_bounds() -> None:
    gate = Gate(("auc >= 0.8", "log_loss < 0.5", "rows >= 10_000"))
    assert gate.judge({"auc": 0.8, "log_loss": 0.4, "rows": 10_000}, []).accepted
    verdict = gate.judge({"auc": 0.79, "log_loss": 0.5, "rows": 9_999}, [])
    assert not verdict.accepted
    assert verdict.reasons == (
        "auc is 0.79, must be >= 0.8",
        "log_loss is 0.5, must be < 0.5",
        "rows is 9999, must be >= 10000",
    )


def test_a_metric_not_known_yet_refuses() -> None:
    assert Gate(("auc >= 0.8",)).judge({}, []).reasons == ("auc is not known yet, must be >= 0.8",)


def test_drift_of_a_loss_and_of_a_score() -> None:
    loss = Gate(("log_loss not worse than 5 % over the last 2 refreshes",))
    history = [{"log_loss": 9.0}, {"log_loss": 0.2}, {"log_loss": 0.2}]
    assert loss.judge({"log_loss": 0.209}, history).accepted
    assert not loss.judge({"log_loss": 0.211}, history).accepted
    score = Gate(("auc not worse than 10% over the last 5 refreshes",))
    assert score.judge({"auc": 0.82}, [{"auc": 0.9}]).accepted
    assert not score.judge({"auc": 0.80}, [{"auc": 0.9}]).accepted


def test_drift_without_history_passes() -> None:
    assert Gate(("auc not worse than 1 % over the last 5 refreshes",)).judge({}, []).accepted


def test_the_open_gate() -> None:
    assert OPEN.judge({}, []).accepted


@pytest.mark.parametrize(
    "rule", ["auc", "auc => 1", "auc >= high", "", "log_loss not worse than 5 over the last 3 refreshes", 3]
)
def test_no_rule(rule: object) -> None:
    with pytest.raises(InvalidValue, match="gate must be rules like"):
        Gate((rule,))  # type: ignore[arg-type]


@pytest.mark.parametrize("span", [0, HISTORY + 1, 1000])
def test_rules_look_back_over_what_is_remembered(span: int) -> None:
    with pytest.raises(InvalidValue, match=r"^gate must look back over 1 to 64 refreshes; got 'auc not .*'\.$"):
        Gate((f"auc not worse than 5 % over the last {span} refreshes",))
    rule = f"log_loss not worse than 5 % over the last {HISTORY} refreshes"
    assert not Gate((rule,)).judge({"log_loss": 2.0}, [{"log_loss": 1.0}]).accepted
