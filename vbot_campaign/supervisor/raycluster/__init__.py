"""Ray as the launcher: each attempt is a detached actor that runs an ordinary worker beside it on some node.

The supervisor never loads Ray. A `Bridge`, in a process of its own, is the driver that Ray knows: what ends a driver
(a head that is gone for a minute, a raylet that dies) ends the bridge, and the supervisor makes another one.

    supervisor: RayLauncher, RayProcess, Link ── pipe ── Bridge ── Ray ── Attendant (actor) ── worker
    runs/<study>/trials/…  ◄────────────────── pieces of files ──────────────── a temporary folder of the node
"""

from __future__ import annotations
