"""What `linear.adagrad` keeps, sends and starts from, as arrays. Letters as in `state`."""

import numpy as np
from jaxtyping import Float64, Int64

from beam_ml.core.arrays import array_dataclass
from beam_ml.core.held import check_rising

__all__ = ["Anchor", "Partial", "State"]


@array_dataclass
class State:
    """Parameters of all variants, and what their next steps go by."""

    rows: Int64[np.ndarray, "p"]  # numbers of the parameter rows held, rising; last: the bias, numbered n_features
    theta: Float64[np.ndarray, "p v o"]  # coefficients per feature unit; last row: bias at the means
    slack: Float64[np.ndarray, "q v o"]  # in [−1, 1], where in its dead zone a coefficient of 0 is; no rows without L1
    average: Float64[np.ndarray, "m v o"]  # mean of theta over folds, later ones weigh more; no rows: not kept
    squares: Float64[np.ndarray, "p v o"]  # Σ gradient², decayed
    faded: Float64[np.ndarray, ""]  # what squares and total were multiplied by since the last fold
    total: Float64[np.ndarray, ""]  # Σ row weight with class factors, decayed: what penalties are multiplied by
    stepped: Float64[np.ndarray, ""]  # the same, each as it was when runs came to it, decayed as squares are
    stepped_squares: Float64[np.ndarray, ""]  # Σ of their squares, decayed as squares are
    norm: Float64[np.ndarray, ""]  # Σ row weight · squared norm of the scaled row, decayed
    mass: Float64[np.ndarray, "k"]  # row weight by class (regression: in all), decayed
    moments: Float64[
        np.ndarray, "p 6"
    ]  # weight, mean, Σz², Σz³, Σz⁴, moving weight by feature, decayed; last row: of a real label
    run_loss: Float64[np.ndarray, "v"]  # Σ weight · loss of rows when runs came to them, before learning, decayed
    run_weight: Float64[np.ndarray, ""]  # Σ weight of those rows, decayed
    loss: Float64[np.ndarray, "v"]  # Σ weight · loss of theta on samples not yet learned from, decayed
    average_loss: Float64[np.ndarray, "v"]  # the same of the average; 0 without averaging
    loss_weight: Float64[np.ndarray, ""]  # Σ weight of those samples, decayed
    status: Int64[np.ndarray, "v"]  # 0: learning; 1: dropped as a loser; 2: dropped, it diverged
    length: Float64[np.ndarray, "v"]  # step length of the last fold; negative: along the mean of the runs
    folds: Int64[np.ndarray, ""]  # folds so far
    seen: Float64[np.ndarray, ""]  # Σ row weight · entropy of labels over folds, never decayed: what halve_at counts

    def __post_init__(self) -> None:
        check_rising("State.rows", self.rows)


@array_dataclass
class Partial:
    """Sums over runs from one anchor; the open run is the one that continues with the next batch."""

    closed_rows: Int64[np.ndarray, "c"]  # parameter rows touched by closed runs, rising
    closed_scaled: Float64[np.ndarray, "c v o"]  # ΣD, moves scaled by curvature
    closed_moved: Float64[np.ndarray, "c v o"]  # Σ(u − u_a)
    closed_squares: Float64[np.ndarray, "c v o"]  # Σ gradient²
    lifted_rows: Int64[np.ndarray, "q"]  # features that closed cold runs centred, rising; none of dense rows
    lifted_scaled: Float64[np.ndarray, "q v o"]  # what ΣD of the bias has of those centres
    lifted_moved: Float64[np.ndarray, "q v o"]  # what Σ(u − u_a) of the bias has of them
    open_rows: Int64[np.ndarray, "r"]  # parameter rows touched by the open run, rising
    open_scaled: Float64[np.ndarray, "r v o"]  # D of the open run
    open_moved: Float64[np.ndarray, "r v o"]  # u − u_a of the open run
    open_squares: Float64[np.ndarray, "r v o"]  # its Σ gradient²
    open_total: Float64[np.ndarray, ""]  # its Σ row weight with class factors
    open_stepped: Float64[np.ndarray, ""]  # the same, each as it was when the run came to it, as in its Σ gradient²
    open_stepped_squares: Float64[np.ndarray, ""]  # Σ of their squares
    runs: Int64[np.ndarray, ""]  # P, the open one included
    folds: Int64[np.ndarray, ""]  # folds that the anchor had seen; 0: cold
    total: Float64[np.ndarray, ""]  # Σ row weight with class factors, all runs
    stepped: Float64[np.ndarray, ""]  # the same, each as it was when its run came to it
    stepped_squares: Float64[np.ndarray, ""]  # Σ of their squares
    norm: Float64[np.ndarray, ""]  # Σ row weight · squared norm of the scaled row
    mass: Float64[np.ndarray, "k"]  # row weight by class (regression: in all)
    loss: Float64[np.ndarray, "v"]  # Σ weight · loss of rows before they were learned from; not of later passes
    loss_weight: Float64[np.ndarray, ""]  # Σ weight of those rows
    moment_rows: Int64[np.ndarray, "m"]  # rows of moments, rising
    moments: Float64[np.ndarray, "m 6"]  # weight, mean, Σz², Σz³, Σz⁴, moving weight


@array_dataclass
class Anchor:
    """The parameters and sums that runs start from."""

    rows: Int64[np.ndarray, "p"]  # as in the state
    theta: Float64[np.ndarray, "p v o"]  # as in the state
    slack: Float64[np.ndarray, "q v o"]  # as in the state
    squares: Float64[np.ndarray, "p v o"]  # as in the state
    total: Float64[np.ndarray, ""]  # as in the state
    stepped: Float64[np.ndarray, ""]  # as in the state
    stepped_squares: Float64[np.ndarray, ""]  # as in the state
    norm: Float64[np.ndarray, ""]  # as in the state
    mass: Float64[np.ndarray, "k"]  # as in the state
    moments: Float64[np.ndarray, "p 6"]  # as in the state
    status: Int64[np.ndarray, "v"]  # as in the state
    folds: Int64[np.ndarray, ""]  # as in the state
