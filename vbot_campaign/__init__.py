"""Hyperparameter studies for reinforcement-learning training of the VBot quadruped."""

from __future__ import annotations

__version__ = "0.1.0"
