"""A simulated climate that answers to emissions, in files like those of ClimateBench.

Two boxes of heat, the surface and the deep ocean, answer to CO2 and CH4, and to what
sulphate and soot do where they are emitted; land and the Arctic warm more, rain changes
with them, and the weather of years adds noise. Nothing here is a projection: it is a
test bed whose physics fits on a page, for code that is meant for the real data.

After: Geoffroy and others, "Transient climate response in a two-layer energy-balance
model", Journal of Climate 26 (2013), https://doi.org/10.1175/JCLI-D-12-00195.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from xatmo.fields.land import land_share_of_cells

__all__ = ["SCENARIOS", "Emissions", "emissions", "two_boxes", "write_scenarios"]

_TITLE = "simulated with two boxes of heat: these are not ClimateBench, nor projections"
_HISTORY = (1850, 2014)
_FUTURE = (2015, 2100)
_DAY = 86_400.0

# Emissions in some years, between which they change linearly: CO2 in Gt a year, CH4,
# SO2 and BC in Mt a year.
_PAST: dict[str, dict[int, float]] = {
    "CO2": {1850: 2, 1900: 5, 1950: 11, 1975: 22, 2000: 30, 2014: 40},
    "CH4": {1850: 40, 1900: 80, 1950: 150, 1985: 300, 2000: 310, 2014: 380},
    "SO2": {1850: 4, 1900: 30, 1950: 65, 1980: 135, 2000: 110, 2014: 105},
    "BC": {1850: 1.5, 1900: 3, 1950: 4, 1980: 6, 2000: 7, 2014: 8.5},
}
SCENARIOS: dict[str, dict[str, dict[int, float]]] = {
    "ssp126": {
        "CO2": {2014: 40, 2020: 41, 2050: 10, 2075: -2, 2100: -8},
        "CH4": {2014: 380, 2030: 280, 2060: 170, 2100: 120},
        "SO2": {2014: 105, 2030: 50, 2060: 20, 2100: 10},
        "BC": {2014: 8.5, 2030: 4.5, 2060: 2.5, 2100: 2},
    },
    "ssp245": {
        "CO2": {2014: 40, 2030: 44, 2050: 43, 2080: 18, 2100: 10},
        "CH4": {2014: 380, 2040: 380, 2070: 330, 2100: 290},
        "SO2": {2014: 105, 2040: 70, 2070: 45, 2100: 32},
        "BC": {2014: 8.5, 2040: 6.5, 2070: 5, 2100: 4},
    },
    "ssp370": {
        "CO2": {2014: 40, 2040: 55, 2070: 68, 2100: 83},
        "CH4": {2014: 380, 2040: 510, 2070: 650, 2100: 770},
        "SO2": {2014: 105, 2040: 108, 2070: 95, 2100: 78},
        "BC": {2014: 8.5, 2040: 9.2, 2070: 8.5, 2100: 7.5},
    },
    "ssp585": {
        "CO2": {2014: 40, 2040: 77, 2070: 121, 2085: 130, 2100: 126},
        "CH4": {2014: 380, 2040: 560, 2060: 580, 2100: 480},
        "SO2": {2014: 105, 2030: 92, 2060: 55, 2100: 30},
        "BC": {2014: 8.5, 2030: 7.8, 2060: 5, 2100: 3.5},
    },
}
"""Emissions of the future, in some years: roughly the pathways of these names."""

_ALONE = {"hist-GHG": ("CO2", "CH4"), "hist-aer": ("SO2", "BC")}

# Where people emit: latitude, longitude and width (degrees), and shares in three years.
_REGIONS = (
    ((50.0, 10.0, 9.0), {1850: 0.55, 1980: 0.40, 2014: 0.08}),  # Europe
    ((39.0, 278.0, 9.0), {1850: 0.30, 1980: 0.28, 2014: 0.07}),  # North America
    ((33.0, 113.0, 9.0), {1850: 0.05, 1980: 0.14, 2014: 0.40}),  # East Asia
    ((24.0, 80.0, 8.0), {1850: 0.06, 1980: 0.08, 2014: 0.30}),  # South Asia
    ((-5.0, 20.0, 14.0), {1850: 0.04, 1980: 0.10, 2014: 0.15}),  # Africa
)


@dataclass(frozen=True)
class Emissions:
    """What is emitted in some years.

    Parameters
    ----------
    years : ndarray, shape (T,)
    totals : mapping of str to ndarray, shapes (T,)
        CO2 (Gt a year, of each year), CH4, SO2 and BC (Mt a year).
    """

    years: np.ndarray
    totals: Mapping[str, np.ndarray]


def emissions(scenario: str) -> Emissions:
    """Return the emissions of a scenario from 1850 on.

    Parameters
    ----------
    scenario : str
        ``"historical"``, ``"hist-GHG"``, ``"hist-aer"`` (where the others stay what
        they were in 1850), or one of :data:`SCENARIOS`.

    Returns
    -------
    Emissions

    Examples
    --------
    >>> from xatmo.testing.forcings import emissions
    >>> told = emissions("ssp126")
    >>> int(told.years[-1]), round(float(told.totals["CO2"][-1]))
    (2100, -8)
    """
    future = SCENARIOS.get(scenario, {})
    years = np.arange(_HISTORY[0], (_FUTURE if future else _HISTORY)[1] + 1)
    totals = {}
    for name, past in _PAST.items():
        knots = past | future.get(name, {})
        totals[name] = np.interp(years, list(knots), list(knots.values()))
        if name not in _ALONE.get(scenario, totals):
            first = 0.0 if name == "CO2" else totals[name][0]
            totals[name] = np.full(len(years), first)
    return Emissions(years, totals)


def two_boxes(
    forcing: np.ndarray,
    feedback: float = 1.2,
    exchange: float = 0.7,
    capacities: tuple[float, float] = (8.0, 100.0),
) -> np.ndarray:
    """Return the temperature of the surface under a radiative forcing, year by year.

    Parameters
    ----------
    forcing : ndarray, shape (T,)
        W m-2, from equilibrium on.
    feedback : float
        W m-2 K-1 that a warmer surface loses to space.
    exchange : float
        W m-2 K-1 between the boxes.
    capacities : tuple of float
        Of the surface and of the deep ocean, W a m-2 K-1.

    Returns
    -------
    ndarray, shape (T,)
        K above the equilibrium without forcing.

    Examples
    --------
    >>> import numpy as np
    >>> from xatmo.testing.forcings import two_boxes
    >>> float(two_boxes(np.full(5000, 3.6))[-1].round(2))  # 3.6 W m-2 over 1.2
    3.0
    """
    upper = lower = 0.0
    steps = 12  # a year in months
    warmth = np.empty(len(forcing))
    for year, power in enumerate(forcing):
        for _ in range(steps):
            down = exchange * (upper - lower)
            upper += (power - feedback * upper - down) / capacities[0] / steps
            lower += down / capacities[1] / steps
        warmth[year] = upper
    return warmth


def write_scenarios(
    folder: str | Path,
    shape: tuple[int, int] = (32, 64),
    *,
    scenarios: Sequence[str] = (),
    members: int = 3,
    seed: int = 0,
) -> list[Path]:
    """Write ``inputs_*.nc`` and ``outputs_*.nc``, named and laid out as ClimateBench's.

    Parameters
    ----------
    folder : path
        Is made if it is not there.
    shape : tuple of int
        Rows and columns of the grid: regular, without the poles, from the south.
    scenarios : sequence of str
        The historical one, its two parts and :data:`SCENARIOS` if none.
    members : int
        Which differ by the weather of their years.
    seed : int
        Of that.

    Returns
    -------
    list of Path

    Examples
    --------
    >>> import tempfile
    >>> from xatmo.testing.forcings import write_scenarios
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = write_scenarios(folder, (8, 16), scenarios=["ssp245"])
    ...     [file.name for file in files]
    ['inputs_ssp245.nc', 'outputs_ssp245.nc']
    """
    names = tuple(scenarios) or ("historical", *_ALONE, *SCENARIOS)
    folder, files = Path(folder), []
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        told = emissions(name)
        key = sum(name.encode())  # of the name, not of its place among others
        generator = np.random.default_rng([seed, key])
        own = slice(_FUTURE[0] - _HISTORY[0] if name in SCENARIOS else 0, None)
        for kind, ds in (
            ("inputs", _inputs(told, shape)),
            ("outputs", _outputs(told, shape, members, generator)),
        ):
            file = folder / f"{kind}_{name}.nc"
            ds.isel(time=own).assign_attrs(title=_TITLE).to_netcdf(file)
            files.append(file)
    return files


# --- What is emitted ------------------------------------------------------------------


def _inputs(told: Emissions, shape: tuple[int, int]) -> xr.Dataset:
    """CO2 summed since 1850 (Gt), CH4 (Gt a year), SO2 and BC (kg m-2 s-1)."""
    latitude, longitude = _grid(shape)
    per_year = 1e9 / (365 * _DAY)  # Mt a year in kg s-1
    area = 5.1e14 * _mean(np.ones(shape), latitude)  # m2
    where = _plumes(told.years, latitude, longitude, broader=1.0)
    maps = ("time", "latitude", "longitude")
    data = {
        "CO2": ("time", np.cumsum(told.totals["CO2"])),
        "CH4": ("time", told.totals["CH4"] / 1e3),
        **{
            name: (
                maps,
                told.totals[name][:, None, None] * per_year / area * where,
            )
            for name in ("SO2", "BC")
        },
    }
    coords = {"time": told.years, "latitude": latitude, "longitude": longitude}
    return xr.Dataset(data, coords)


def _plumes(
    years: np.ndarray, latitude: np.ndarray, longitude: np.ndarray, broader: float
) -> np.ndarray:
    """Where emissions are, of mean 1 in each year: (T, H, W)."""
    away = np.zeros((len(years), len(latitude), len(longitude)))
    for (north, east, width), shares in _REGIONS:
        share = np.interp(years, list(shares), list(shares.values()))
        y = latitude[:, None] - north
        x = (longitude - east + 180) % 360 - 180
        x = x * np.cos(np.deg2rad(north))
        bump = np.exp(-0.5 * (y**2 + x**2) / (broader * width) ** 2)
        away += share[:, None, None] * bump / _mean(bump, latitude)
    total: np.ndarray = away / _mean(away, latitude)[:, None, None]
    return total


# --- What the climate makes of it -----------------------------------------------------


def _outputs(
    told: Emissions,
    shape: tuple[int, int],
    members: int,
    generator: np.random.Generator,
) -> xr.Dataset:
    """Differences from the preindustrial state, with the weather of years."""
    latitude, longitude = _grid(shape)
    greenhouse, sulphate, soot = _forcing(told)
    warm, cool = two_boxes(greenhouse), two_boxes(sulphate + soot)
    haze = _plumes(told.years, latitude, longitude, broader=2.2)
    land = land_share_of_cells(latitude, longitude, (180 / shape[0], 360 / shape[1]))
    everywhere = warm[:, None, None] * _response(warm, latitude, land)
    tas = everywhere + cool[:, None, None] * (0.5 + 0.5 * haze)
    wet = _wetness(latitude)
    both = (warm + cool)[:, None, None]
    absorbed = soot[:, None, None] * haze
    pr = 0.06 * both * wet - 0.08 * absorbed
    weather = _weather(members, len(told.years), latitude, longitude, generator)
    size = 0.15 + 0.5 * (np.abs(latitude) / 90)[:, None] ** 2
    dtr = -0.12 * tas * land + 0.5 * (sulphate[:, None, None] * haze) * land
    fields = {
        "diurnal_temperature_range": dtr + 0.12 * weather[0],
        "tas": tas + size * weather[1],
        "pr": (pr + 0.15 * (wet + 1) * weather[2]) / _DAY,
        "pr90": (3.5 * pr * (1 + 0.03 * both) + 0.5 * (wet + 1) * weather[3]) / _DAY,
    }
    dims = ("member", "time", "lat", "lon")
    coords = {
        "time": told.years,
        "lat": latitude,
        "lon": longitude,
        "member": np.arange(1, members + 1),
        "quantile": np.array(0.9),
    }
    data = {name: (dims, field.astype(np.float32)) for name, field in fields.items()}
    return xr.Dataset(data, coords)


def _forcing(told: Emissions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Radiative forcing of greenhouse gases, sulphate and soot (W m-2), each (T,)."""
    co2 = 284 + 0.45 / 7.8 * np.cumsum(told.totals["CO2"])  # ppm, what stays in the air
    excess = (told.totals["CH4"] - _PAST["CH4"][1850]) / 2.75  # ppb a year
    ch4 = np.empty(len(excess))
    level = 0.0
    for year, added in enumerate(excess):
        level += added - level / 9.5
        ch4[year] = 800 + level
    greenhouse = 5.35 * np.log(co2 / 284)
    greenhouse += 0.036 * (np.sqrt(np.maximum(ch4, 0)) - np.sqrt(800))
    sulphate = -1.0 * (told.totals["SO2"] - _PAST["SO2"][1850]) / 105
    soot = 0.25 * (told.totals["BC"] - _PAST["BC"][1850]) / 8.5
    return greenhouse, sulphate, soot


def _response(warm: np.ndarray, latitude: np.ndarray, land: np.ndarray) -> np.ndarray:
    """Warming by greenhouse gases over its global mean: (T, H, W)."""
    north = np.clip(latitude / 90, 0, 1)[:, None] ** 3
    south = np.clip(-latitude / 90, 0, 1)[:, None] ** 6
    # Once the ice is gone the Arctic has no more to lose: no straight line does that.
    ice = 2.4 * np.exp(-np.maximum(warm, 0) / 6)[:, None, None]
    pattern = 0.75 + 0.45 * land + ice * north + 0.5 * south
    scaled: np.ndarray = pattern / _mean(pattern, latitude)[:, None, None]
    return scaled


def _wetness(latitude: np.ndarray) -> np.ndarray:
    """Where it becomes wetter, and where drier: (H, 1)."""
    rain = np.exp(-((latitude / 9) ** 2)) * 1.6
    dry = np.exp(-(((np.abs(latitude) - 27) / 9) ** 2)) * 0.8
    storms = np.exp(-(((np.abs(latitude) - 57) / 14) ** 2))
    wet: np.ndarray = (rain - dry + storms)[:, None]
    return wet


def _weather(
    members: int,
    years: int,
    latitude: np.ndarray,
    longitude: np.ndarray,
    generator: np.random.Generator,
) -> np.ndarray:
    """Noise of large scales that remembers last year: (4, members, T, H, W), std 1."""
    rows, columns = np.deg2rad(latitude), np.deg2rad(longitude)
    waves = []
    for zonal in range(7):
        for meridional in range(1, 7):
            shape = np.cos(rows) ** zonal * np.cos(meridional * (rows + np.pi / 2))
            for phase in (0, np.pi / 2):
                waves.append(shape[:, None] * np.cos(zonal * columns + phase))
    basis = np.stack([wave for wave in waves if np.abs(wave).max() > 1e-6])
    basis /= np.sqrt((basis**2).sum(0).mean())
    amplitudes = generator.normal(size=(4, members, years, len(basis)))
    memory = 0.4
    for year in range(1, years):
        fresh = np.sqrt(1 - memory**2) * amplitudes[:, :, year]
        amplitudes[:, :, year] = memory * amplitudes[:, :, year - 1] + fresh
    noise: np.ndarray = np.tensordot(amplitudes, basis, 1)
    return noise


def _grid(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = shape
    latitude = 180 / rows * (np.arange(rows) + 0.5) - 90
    return latitude, 360 / columns * np.arange(columns)


def _mean(maps: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    """Mean by area over the last two axes."""
    weights = np.cos(np.deg2rad(latitude))
    mean: np.ndarray = (maps * (weights / weights.mean())[:, None]).mean((-2, -1))
    return mean
