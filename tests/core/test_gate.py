import pytest

from beam_ml.core.gate import ANYWAY, HISTORY, OPEN, Gate
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


def test_drift_of_a_mean_below_zero() -> None:
    """A metric of one's own may be negative: the slack widens what passes all the same."""
    rule = Gate(("log_likelihood not worse than 10 % over the last 3 refreshes",))
    assert rule.judge({"log_likelihood": -2.1}, [{"log_likelihood": -2.0}]).accepted
    assert rule.judge({"log_likelihood": -1.81}, [{"log_likelihood": -2.0}]).accepted
    assert not rule.judge({"log_likelihood": -1.79}, [{"log_likelihood": -2.0}]).accepted


@pytest.mark.parametrize("metric", ["auc", "log_loss"])
def test_a_metric_just_at_its_slack_is_not_worse(metric: str) -> None:
    rule = Gate((f"{metric} not worse than 0 % over the last 3 refreshes",))
    assert rule.judge({metric: 0.5}, [{metric: 0.5}, {metric: 0.5}]).accepted


def test_a_rule_says_whether_it_is_about_the_newest_window() -> None:
    gate = Gate(("auc >= 0.8", "auc of the window >= 0.75", "log_loss of  the window <= 0.5"))
    now = {"auc": 0.85, "auc of the window": 0.7, "log_loss": 0.9, "log_loss of the window": 0.4}
    assert gate.judge(now, []).reasons == ("auc of the window is 0.7, must be >= 0.75",)
    assert gate.judge({"auc": 0.85, "log_loss": 0.1}, []).reasons == (
        "auc of the window is not known yet, must be >= 0.75",
        "log_loss of the window is not known yet, must be <= 0.5",
    )
    assert gate.metrics == ("auc", "auc", "log_loss")


def test_drift_of_the_newest_window_is_against_earlier_windows() -> None:
    gate = Gate(("log_loss of the window not worse than 10 % over the last 2 refreshes",))
    history = [{"log_loss": 0.1, "log_loss of the window": value} for value in (9.0, 0.4, 0.6)]
    assert gate.judge({"log_loss of the window": 0.54}, history).accepted
    said = gate.judge({"log_loss": 0.1, "log_loss of the window": 0.56}, history).reasons
    assert said == ("log_loss of the window is 0.56, was 0.5 on average over 2 refreshes",)
    rising = Gate(("auc of the window not worse than 10 % over the last 2 refreshes",))
    assert not rising.judge({"auc of the window": 0.7}, [{"auc of the window": 0.8}]).accepted
    assert rising.judge({"auc of the window": 0.9}, [{"auc of the window": 0.8}]).accepted


def test_a_rule_is_broken_only_beyond_the_standard_error() -> None:
    gate = Gate(("auc >= 0.8", "log_loss of the window < 0.5", "auc not worse than 1 % over the last 5 refreshes"))
    now = {"auc": 0.79, "auc_se": 0.02, "log_loss of the window": 0.51, "log_loss_se of the window": 0.02}
    assert gate.judge(now, [{"auc": 0.81}]).accepted
    tight = {**now, "auc_se": 0.005, "log_loss_se of the window": 0.005}
    assert gate.judge(tight, [{"auc": 0.81}]).reasons == (
        "auc is 0.79 ± 0.005, must be >= 0.8",
        "log_loss of the window is 0.51 ± 0.005, must be < 0.5",
        "auc is 0.79 ± 0.005, was 0.81 on average over 1 refreshes",
    )


def test_the_errors_of_the_whole_do_not_excuse_the_window() -> None:
    now = {"auc of the window": 0.7, "auc_se": 0.5}
    assert not Gate(("auc of the window >= 0.75",)).judge(now, []).accepted


def test_the_rule_about_the_prior_is_no_bound() -> None:
    gate = Gate(("auc >= 0.8", ANYWAY))
    assert not gate.minds_prior
    assert Gate(("auc >= 0.8",)).minds_prior
    assert gate.metrics == ("auc",)
    assert gate.judge({"auc": 0.9}, []).accepted


def test_drift_without_history_passes() -> None:
    assert Gate(("auc not worse than 1 % over the last 5 refreshes",)).judge({}, []).accepted


def test_the_open_gate() -> None:
    assert OPEN.judge({}, []).accepted


@pytest.mark.parametrize(
    "rule",
    [
        "auc",
        "auc of the week >= 1",
        "auc => 1",
        "auc >= high",
        "",
        "log_loss not worse than 5 over the last 3 refreshes",
        3,
    ],
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
