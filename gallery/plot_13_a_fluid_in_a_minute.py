"""
A fluid in a minute
===================

Does a network learn at all? Before it is given the atmosphere, it should be given
something whose answer is known. The first experiment of the authors of AtmoRep, as they
tell it in talks, is one of this kind: elliptic vortices of random place, size and
eccentricity drift over a plane. The network sees three states, t-2, t-1 and t, and has
to say what comes next.

Here are such vortices (:func:`xatmo.testing.fluid.drifting_vortices`), and a harder
case: the same ones as a flow without divergence carries them
(:func:`xatmo.testing.fluid.simulate`), so that they turn, shear each other and shed
filaments. A very small :class:`xatmo.nets.multiformer.Multiformer` learns both at once,
in about a minute of one core, and is not told which of the two it sees.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
import xarray as xr

from xatmo.nets.multiformer import Multiformer
from xatmo.nets.multiformer_loss import ensemble_loss
from xatmo.nets.multiformer_tail import mean_and_spread
from xatmo.nets.multiformer_tokens import detokenize, tokenize
from xatmo.testing.fluid import cut_samples, drifting_vortices, simulate

threads = torch.get_num_threads()
torch.set_num_threads(1)  # the products are small: more would wait for each other


# %%
# Samples
# -------
# Eight times of each run, three hours apart, are five samples. A run has one set of
# vortices, so that runs that are held out have vortices that the network never saw.
def samples(seeds, solved):
    """Three states and the next (1e-5 s-1): shape (samples, 4, rows, columns)."""
    runs = []
    for seed in seeds:
        ds = drifting_vortices(1 if solved else 8, (42, 42), spacing=0.4, seed=seed)
        runs.append(simulate(ds, 8) if solved else ds)
    seen, wanted = cut_samples(xr.concat([run.vo for run in runs], "run").to_dataset())
    x = np.concatenate([seen.vo, wanted.vo.expand_dims("lag", 2)], 2) * 1e5
    return torch.from_numpy(x).flatten(0, 1)


kinds = {"drifting": False, "solved": True}
train = torch.cat([samples(range(100), solved) for solved in kinds.values()])
test = {kind: samples(range(1000, 1030), solved) for kind, solved in kinds.items()}
state, change = float(train.std()), float((train[:, 3] - train[:, 2]).std())
print(f"{len(train)} samples; standard deviation {state:.2f} 1e-5 s-1")
print(f"of what changes in three hours: {change:.2f} 1e-5 s-1")

# %%
# The network
# -----------
# The plane is cut into 3 x 3 tokens, with width enough that each of them knows its
# place. The last of four times is hidden. The network reads the last state and the two
# changes that led to it; what it has to say is the next change: all that persistence
# leaves. In place of what is hidden stands a first guess, the last change once more.
# Where on Earth, and when, means nothing here.
torch.manual_seed(0)
size = (1, 14, 14)
vorticity = {"name": "vorticity", "width": 96, "levels": 1, "tokens": (4, 3, 3)}
network = Multiformer(
    [vorticity | {"token_size": size}],
    encoder_layers=2,
    decoder_layers=2,
    encoder_heads=4,
    decoder_heads=4,
    members=8,
    info_width=2,
    dropout=0.0,
)
hidden = torch.zeros(1, 4, 3, 3, dtype=torch.bool)
hidden[:, -1] = True
print(f"{sum(p.numel() for p in network.parameters()) / 1e6:.1f} million parameters")


def changes(x):
    """Members of the next change: (B, 4, rows, columns) -> (B * 9, 8, 1, 14, 14)."""
    earlier, last = x[:, 1] - x[:, 0], x[:, 2] - x[:, 1]
    read = [x[:, 2] / state, earlier / change, last / change, last / change]
    tokens = {"vorticity": tokenize(torch.stack(read, 1)[:, None], size)}
    info = {"vorticity": torch.zeros(len(x), 4 * 3 * 3, 8)}
    return network(tokens, info, {"vorticity": hidden})["vorticity"]


def forecast(x):
    """Members of the next state (1e-5 s-1): (B, 8, rows, columns)."""
    with torch.inference_mode():
        tokens = changes(x).unflatten(0, (len(x), 1, 3, 3)).movedim(4, 1)
    return x[:, 2, None] + change * detokenize(tokens).squeeze(2)


# %%
# Learning
# --------
# The plane repeats itself, and no direction is special: a sample that is shifted and
# turned is another sample, which is as right. So the network never sees one twice. The
# loss is AtmoRep's: how far each member is from the truth, and how likely the truth is
# by the mean and the spread of all.
def shifted_and_turned(x):
    """Another view of samples."""
    by = torch.randint(0, x.shape[-1], (2,)).tolist()
    return x.roll(by, (2, 3)).rot90(int(torch.randint(0, 4, ())), (2, 3))


def rmse(error):
    return float(error.square().mean().sqrt())


steps = 1000
optimiser = torch.optim.AdamW(network.parameters(), weight_decay=0.01, fused=True)
rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps, pct_start=0.1)
curve = {kind: [] for kind in kinds}
for step in range(steps + 1):
    if step % 50 == 0:  # a look at a few of those that are held out
        for kind, x in test.items():
            x = x[::5]
            curve[kind].append(rmse(forecast(x).mean(1) - x[:, 3]))
    if step == steps:
        break
    x = shifted_and_turned(train[torch.randint(0, len(train), (16,))])
    truth = tokenize((x[:, 3] - x[:, 2])[:, None, None] / change, size).flatten(0, 4)
    loss = ensemble_loss({"vorticity": changes(x)}, {"vorticity": truth})
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimiser.step()
    rate.step()
torch.set_num_threads(threads)

# %%
# What it has to beat: persistence, which says that nothing changes, and linear
# extrapolation, which says that the last change goes on. The second gains little where
# vortices drift, since in three hours they move by a good part of their size, and loses
# where they turn.
guesses = {
    "persistence": lambda x: x[:, 2],
    "linear extrapolation": lambda x: 2 * x[:, 2] - x[:, 1],
    "network": lambda x: forecast(x).mean(1),
}

fig, ax = plt.subplots(figsize=(7.5, 4), layout="constrained")
for (kind, errors), colour in zip(curve.items(), ("#1b6ca8", "#c8553d"), strict=True):
    few = test[kind][::5]
    ax.plot(50 * np.arange(len(errors)), errors, color=colour, label=f"{kind}: network")
    for name, style in (("persistence", "--"), ("linear extrapolation", ":")):
        level = rmse(guesses[name](few) - few[:, 3])
        ax.axhline(level, color=colour, ls=style, lw=1, label=f"{kind}: {name}")
ax.set(xlabel="training step", ylim=(0, None), xlim=(0, steps))
ax.set_ylabel("RMSE of held-out samples (10$^{-5}$ s$^{-1}$)")
ax.legend(frameon=False, fontsize=8, ncols=2, loc="lower left")
plt.show()

# %%
# What it has learnt
# ------------------
# One held-out sample of each kind, from the same vortices. The network moves them to
# where they go; what is left of its errors is along their edges, and more of it where
# they turn and wind up filaments.
one = 77
fig, axes = plt.subplots(
    2, 7, figsize=(12, 4.9), layout="constrained", sharex=True, sharey=True
)
flow = {"cmap": "RdBu_r", "vmin": -20, "vmax": 20}
apart = {"cmap": "PuOr", "vmin": -10, "vmax": 10}
sure = {"cmap": "magma_r", "vmin": 0, "vmax": 1}
titles = "t - 6 h", "t - 3 h", "t", "t + 3 h: truth", "ensemble mean", "mean - truth"
extent = (0, 42 * 0.4, -21 * 0.4, 21 * 0.4)
for row, (kind, x) in zip(axes, test.items(), strict=True):
    mean, spread = mean_and_spread(forecast(x[one, None]))
    fields = [*x[one], mean[0], mean[0] - x[one, 3], spread[0]]
    styles = [flow] * 5 + [apart, sure]
    for ax, field, style in zip(row, fields, styles, strict=True):
        ax.imshow(field, extent=extent, **style)
    row[0].set_ylabel(f"{kind}\nlatitude (°N)")
for ax, title in zip(axes[0], (*titles, "spread"), strict=True):
    ax.set_title(title, loc="left", fontsize=10)
for ax in axes[1]:
    ax.set(xlabel="longitude (°E)", xticks=(0, 5, 10, 15))
unit = "10$^{-5}$ s$^{-1}$"
below = {"location": "bottom", "pad": 0.02}
for group, label, aspect, extend in (
    (axes[:, :5], f"vorticity ({unit})", 60, "both"),
    (axes[:, 5], unit, 12, "both"),
    (axes[:, 6], unit, 12, "max"),
):
    image, ends = group.flat[0].images[0], {"aspect": aspect, "extend": extend}
    fig.colorbar(image, ax=group, label=label, **ends, **below)
plt.show()

# %%
# In numbers, of all held-out samples. The network does better than both guesses, and by
# more where vortices only drift.
#
# Its ensemble is another matter. Of an honest one the spread is as large as the error
# of the mean, a ratio of 1; this one is much too sure of itself. On the map its spread
# is nearly one number for a token, larger where vortices are. Its members share all but
# their last layer, and the loss rewards a small spread.
print(f"{'RMSE (1e-5 s-1)':24}" + "".join(f"{kind:>12}" for kind in kinds))
for name, guess in guesses.items():
    errors = [rmse(guess(x) - x[:, 3]) for x in test.values()]
    print(f"{name:24}" + "".join(f"{error:12.2f}" for error in errors))
lines = {"spread of the members": [], "spread / error": [], "correlation of both": []}
for x in test.values():
    mean, spread = mean_and_spread(forecast(x))
    error = (mean - x[:, 3]).abs()
    both = torch.stack([error.flatten(), spread.flatten()])
    numbers = rmse(spread), rmse(spread) / rmse(error), float(both.corrcoef()[0, 1])
    for line, number in zip(lines.values(), numbers, strict=True):
        line.append(number)
for name, line in lines.items():
    print(f"{name:24}" + "".join(f"{number:12.2f}" for number in line))
