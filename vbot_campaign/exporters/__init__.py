"""Read-only consumers of a study: YAML mirrors for people and scripts, and the check that they are true."""

from __future__ import annotations

from vbot_campaign.exporters.mirrors import MirrorExporter, export_all
from vbot_campaign.exporters.verify import Difference, render_differences, verify

__all__ = ["Difference", "MirrorExporter", "export_all", "render_differences", "verify"]
