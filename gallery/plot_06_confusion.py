"""
Which lags does the network confuse?
====================================

Before its features serve as a distance, an AtmoDist network has to pass the test it was
trained for: name the hours between two states of the same patch. Every released model
brings the result on real data that it never saw, in ``scores.json`` beside its weights;
``xatmo evaluate`` measures the same on data of yours.

The confusion matrix says more than an accuracy. Short lags are told apart; then the
rows get wide, since weather two days from now can look like weather three days from
now: that is the lack of predictability which the distance is built on.
"""

import json

import matplotlib.pyplot as plt
import numpy as np

import xatmo
from xatmo.plot import confusion_matrix

# %%
# Scores are kept per data set. This one is a week of another year, with Hurricane
# Michael in it.
card = xatmo.load_model().card
scores = json.loads((card.folder / "scores.json").read_text())
name = next(key for key in scores if key.endswith("michael"))
measured = scores[name]["classification"]
low, high = measured["accuracy_95"]
print(
    f"{measured['pairs']} pairs: accuracy {measured['accuracy']:.3f} "
    f"({low:.3f} to {high:.3f}), by chance {measured['accuracy_chance']:.3f}"
)

# %%
# How far off is the network when it is wrong? The mean lag it names, for each true lag,
# bends towards the middle of the range: where it cannot know, it bets on the mean.
confusion = np.array(measured["confusion"])
lags = np.array(measured["lags_hours"])
named = confusion @ lags / confusion.sum(1)

fig, (left, right) = plt.subplots(
    1, 2, figsize=(11, 4.6), layout="constrained", width_ratios=[3, 2]
)
confusion_matrix(left, confusion, lags)
left.set_title("lags that were named, real winds of October 2018", loc="left")
right.plot(lags, lags, color="#8a8f98", ls="--", label="if it were always right")
right.plot(lags, named, color="#1b6ca8", marker="o", label="mean of what it names")
right.set(xlabel="true lag (h)", ylabel="lag (h)", xlim=(0, None), ylim=(0, None))
right.grid(alpha=0.3)
right.legend(frameon=False)
plt.show()
