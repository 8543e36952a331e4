"""``python -m vbot_campaign.chaos.lock_holder DATABASE SECONDS``: hold SQLite's write lock from another process."""

from __future__ import annotations

import sqlite3
import sys
import time


def main(database: str, seconds: float) -> None:
    """Hold the write lock of a database for some seconds; say when it is held."""
    connection = sqlite3.connect(database, timeout=30.0, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    print("locked", flush=True)
    time.sleep(seconds)
    connection.execute("ROLLBACK")
    connection.close()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
