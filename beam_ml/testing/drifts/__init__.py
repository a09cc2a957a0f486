"""Drifts as data: how the world may change while a learner learns, and what a learner is held against."""

from beam_ml.testing.drifts.drift import WINDOW_S, Drift, Window
from beam_ml.testing.drifts.rows import Regime, Task, draw, task_of

__all__ = ["WINDOW_S", "Drift", "Regime", "Task", "Window", "draw", "task_of"]
