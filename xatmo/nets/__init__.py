"""Networks in pure torch: no xarray, no files, no meteorology."""

from __future__ import annotations

ARCHITECTURES: dict[str, str] = {
    "atmodist": "xatmo.nets.atmodist:AtmoDist",
    "generator": "xatmo.nets.generator:Generator",
}
"""What a model card calls its architecture, and the class that builds it."""
