"""Networks in pure torch: no xarray, no files, no meteorology."""

from __future__ import annotations

ARCHITECTURES: dict[str, str] = {
    "atmodist": "xatmo.nets.atmodist:AtmoDist",
    "autoencoder": "xatmo.nets.autoencoder:AutoencoderSmall",
    "climax": "xatmo.nets.climax:ClimaX",
    "climax-series": "xatmo.nets.climax_series:ClimaXSeries",
    "generator": "xatmo.nets.generator:Generator",
    "infiller": "xatmo.nets.infiller:Infiller",
    "multiformer": "xatmo.nets.multiformer_box:BoxMultiformer",
}
"""What a model card calls its architecture, and the class that builds it."""
