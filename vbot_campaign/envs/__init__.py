"""Environments: the task, computed in torch on the state of a physics engine."""
