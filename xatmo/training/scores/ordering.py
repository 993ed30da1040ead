"""Is the state at the longer lag farther away? Asked of every distance."""

from __future__ import annotations

from typing import Any

import numpy as np

from xatmo.metrics.ordering import block_bootstrap

__all__ = ["ordering"]


def ordering(
    closer: dict[str, np.ndarray],
    lags: np.ndarray,
    block: np.ndarray,
    step_hours: int,
) -> dict[str, Any]:
    """Compare distances on triplets.

    Parameters
    ----------
    closer : dict of str to ndarray of bool, shape (n,)
        Whether a distance found the state at the shorter lag nearer; ``atmodist`` is
        among them.
    lags : ndarray of int, shape (n, 2)
        Lags in steps, the shorter first.
    block : ndarray of int, shape (n,)
        Three days of weather each.
    step_hours : int

    Returns
    -------
    dict
        For each group of triplets, and in it for each distance: ``accuracy``, its
        interval ``95``, and that of the gain of AtmoDist over it.
    """
    hours = lags * step_hours
    groups = {
        "all": np.ones(len(lags), bool),
        "both_at_least_24h": hours.min(1) >= 24,
        "shorter_below_24h": hours.min(1) < 24,
        f"{step_hours}h_apart": np.ptp(lags, axis=1) == 1,
    }
    return {
        name: _group({k: v[members] for k, v in closer.items()}, block[members])
        for name, members in groups.items()
        if members.any()  # few classes: no lag is that long
    }


def _group(closer: dict[str, np.ndarray], block: np.ndarray) -> dict[str, Any]:
    table: dict[str, Any] = {
        "triplets": int(block.size),
        "blocks": int(np.unique(block).size),
    }
    for name, hit in closer.items():
        gain = closer["atmodist"].astype(float) - hit
        table[name] = {
            "accuracy": float(hit.mean()),
            "95": list(block_bootstrap(hit, block)),
            "atmodist_gain_95": list(block_bootstrap(gain, block)),
        }
    return table
