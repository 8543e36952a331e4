"""One process per attempt: trains what ``trial.json`` says and reports through files."""
