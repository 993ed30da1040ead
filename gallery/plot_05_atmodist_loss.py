"""
A loss that looks at structure
==============================

A network that is trained to add detail to a coarse field cannot know where each small
vortex is. The mean squared error punishes a vortex in the wrong place twice, so the
network learns to draw none: its fields are smooth. :class:`xatmo.losses.AtmoDistLoss`
compares what a pretrained network sees in the fields, for which it matters more that
detail of the right kind is there.

This example trains a toy for some seconds, once with each loss. It is told of ten
simulated days and has a few thousand weights: a picture of what a loss asks for, and no
downscaling of use to anybody.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, interpolate

import xatmo
from xatmo.fields import read
from xatmo.losses import AtmoDistLoss

# %%
# The loss says which channels it needs. Here everything happens in normalised fields,
# so they are read, put side by side and normalised once; the tropics and middle
# latitudes are kept. Training sees 32 states, the last four are for looking at.
quantities = [channel.quantity for channel in AtmoDistLoss().inputs]
fields = read(xatmo.open_sample(), quantities).data
x = torch.from_numpy(np.stack([fields[q].values for q in quantities], axis=1))
x = AtmoDistLoss(level="sigma 0.95").normalize(x)[:, :, 16:80].float()
train, test = x[:32], x[36:]
print(tuple(x.shape), quantities)


# %%
# The toy refines means of 4 x 4 points: interpolation, and what three small
# convolutions add to it.
class Refine(nn.Module):
    def __init__(self, channels, width=16):
        super().__init__()
        self.detail = nn.Sequential(
            nn.Conv2d(channels, width, 5, padding=2),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, channels, 5, padding=2),
        )

    def forward(self, coarse):
        smooth = interpolate(coarse, scale_factor=4, mode="bilinear")
        return smooth + self.detail(smooth)


# %%
# Training with the AtmoDist loss differs from any other in one argument. Some of the
# mean squared error is mixed in, with ``pixel_weight``: the features alone leave the
# finest scales, which the encoder hardly sees, to chance.
def fit(loss, steps=300):
    torch.manual_seed(0)
    network = Refine(len(quantities))
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(steps):
        state = torch.randint(len(train), (8,))
        row, column = torch.randint(32, (1,)).item(), torch.randint(160, (1,)).item()
        target = train[state, :, row : row + 32, column : column + 32]
        optimizer.zero_grad()
        loss(network(avg_pool2d(target, 4)), target).backward()
        optimizer.step()
    return network


losses = {
    "mean squared error": nn.MSELoss(),
    "AtmoDist loss": AtmoDistLoss(normalized=True, pixel_weight=1.0),
}
networks = {name: fit(loss) for name, loss in losses.items()}

# %%
# Each is best by the measure it was trained for.
coarse = avg_pool2d(test, 4)
smooth = interpolate(coarse, scale_factor=4, mode="bilinear")
maps = {"target": test, "interpolated": smooth}
with torch.no_grad():
    maps |= {f"trained by {name}": net(coarse) for name, net in networks.items()}
exact = AtmoDistLoss(normalized=True, autocast=False)
for name, field in maps.items():
    squares, distance = nn.functional.mse_loss(field, test), exact(field, test)
    print(f"{name:30} MSE {squares:.3f}   AtmoDist distance {distance:.3f}")

# %%
# One state, and the variance at each zonal wavenumber, of the last channel. Sharper is
# not the same as right: in no map is every vortex where the target has it. With a
# smaller ``pixel_weight`` marks in step with the network's cells appear.
fig, axes = plt.subplots(5, 1, figsize=(7.5, 13), layout="constrained")
colours = ("black", "#8a8a8a", "#c8553d", "#1b6ca8")
for (name, field), ax, colour in zip(maps.items(), axes, colours, strict=False):
    image = field[0, -1].numpy()
    ax.imshow(image, vmin=-4, vmax=4, cmap="RdBu_r", extent=(0, 360, -60, 60))
    ax.set_ylabel("latitude (°N)")
    ax.set_title(f"{name} (simulated)", loc="left", fontsize=10)
    spectrum = torch.fft.rfft(field[:, -1], norm="forward").abs().square().mean((0, 1))
    axes[-1].loglog(2 * spectrum[:65].numpy(), color=colour, label=name)
axes[3].set_xlabel("longitude (°E)")
axes[-1].set_xlabel("zonal wavenumber")
axes[-1].set_ylabel("variance (1)")
axes[-1].set_title(f"{quantities[-1]}, normalised", loc="left", fontsize=10)
axes[-1].legend(frameon=False)
plt.show()
