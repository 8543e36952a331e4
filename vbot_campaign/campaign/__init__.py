"""Several trainings in a row: confirmation, extension, modes, and campaigns of several stages."""
