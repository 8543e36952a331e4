"""The service: takes studies and plans from the queue, runs them unattended, and can be watched. Never loads torch."""
