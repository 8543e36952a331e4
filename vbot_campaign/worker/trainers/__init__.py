"""Trainers that other libraries bring, each loaded only when a trial asks for it by name."""
