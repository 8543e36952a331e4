"""What people write and workers read, validated. Needs neither optuna nor torch."""
