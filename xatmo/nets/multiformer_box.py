"""The Multiformer on boxes as they come: with gaps, in space, in time or of fields.

What is not known of a box is NaN. The box is cut into tokens, of which it is said when
and where they are, and those with gaps are predicted and put back into their places.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from xatmo.nets.multiformer import Multiformer
from xatmo.nets.multiformer_fields import INFO, FieldSpec, check_levels
from xatmo.nets.multiformer_finer import (
    check_as_read,
    check_refines,
    finer_field,
    late_tokens,
)
from xatmo.nets.multiformer_guess import between_times, from_both
from xatmo.nets.multiformer_maps import attention_maps
from xatmo.nets.multiformer_places import PERIODIC, place_info
from xatmo.nets.multiformer_tail import MemberLinear
from xatmo.nets.multiformer_tokens import detokenize, tokenize

__all__ = [
    "PERIODIC",
    "BoxMultiformer",
    "Present",
    "Read",
]

Present: TypeAlias = tuple[tuple[str, tuple[int, ...]], ...]
"""Fields that are there, and their levels, counted from 0."""


class Read:
    """Tokens of a box: what the network reads, field by field.

    Attributes
    ----------
    tokens, info : dict of str to Tensor
        As of :meth:`xatmo.nets.multiformer.Multiformer.forward`.
    guess : dict of str to Tensor or None
        What tails say something in addition to, token by token; None for nothing.
    """

    def __init__(self) -> None:
        self.tokens: dict[str, Tensor] = {}
        self.info: dict[str, Tensor] = {}
        self.guess: dict[str, Tensor] | None = None


class BoxMultiformer(Multiformer):
    """A Multiformer with all that it needs to read boxes of normalised fields.

    Parameters
    ----------
    fields : sequence of FieldSpec or mapping
        All cover the same box.
    level_numbers : mapping of str to sequence of float
        For each field the number that says which level is which.
    guess : {"zero", "time", "around"}
        What stands where nothing is known. As in published networks a zero, which is
        the mean; or what lies between the times before and after, or between those
        and the points around. To these tails add what they know better: a small
        network begins where plain methods end. Tokens then say of each point whether
        it is known.
    info : {"published", "periodic"}
        How tokens are told when and where they are: by eight plain numbers; or by
        sines and cosines of hour, day and place, the level, the spacing of the grid and
        the known share of the token, eleven in all.
    fractional_day : bool
        Add the time of the day to the day of the year, as published networks of 2023.
    **options
        Of :class:`xatmo.nets.multiformer.Multiformer`. With ``finer`` above 1 boxes are
        refined, and nothing else is predicted: see :meth:`refine`.

    Raises
    ------
    xatmo.errors.OptionError
        If fields cover different boxes, or levels and their numbers differ in number.
    """

    def __init__(
        self,
        fields: Sequence[FieldSpec | Mapping[str, Any]],
        level_numbers: Mapping[str, Sequence[float]],
        guess: Literal["zero", "time", "around"] = "zero",
        info: Literal["published", "periodic"] = "published",
        fractional_day: bool = False,
        **options: Any,
    ) -> None:
        size = INFO if info == "published" else PERIODIC
        channels = 1 if guess == "zero" else 2
        super().__init__(fields, info_size=size, channels=channels, **options)
        self.level_numbers = {n: tuple(map(float, v)) for n, v in level_numbers.items()}
        self.box = check_levels(self.fields, self.level_numbers)
        self.guess, self.info, self.fractional_day = guess, info, fractional_day
        if guess != "zero" or self.finer > 1:
            self._begin_with_guess()

    @torch.no_grad()
    def _begin_with_guess(self) -> None:
        """Let tails say little at first: the guess is nearer than random members."""
        for name in self.predicted:
            tail = self.network(name).tail
            assert tail is not None  # noqa: S101 - predicted
            for parameter in cast("MemberLinear", tail.layers[-1]).parameters():
                parameter.mul_(0.1)

    def predict(
        self,
        x: Tensor,
        when: Tensor,
        latitude: Tensor,
        longitude: Tensor,
        resolution: float,
        frames: int | None = None,
        present: Present | None = None,
    ) -> Tensor:
        """Predict what is not known of boxes.

        Parameters
        ----------
        x : Tensor, shape (B, C, T, Y, X)
            Normalised; NaN where nothing is known. Channels are the levels of the first
            field, then those of the next.
        when : Tensor, shape (B, T, 3)
            Year, day of the year (the first is 0), hour.
        latitude, longitude : Tensor, shapes (B, Y) and (B, X)
            Degrees north and east.
        resolution : float
            Degrees between points.
        frames : int, optional
            How many of the last times are wanted; all if not given.
        present : Present, optional
            What the channels are; all fields and levels if not given.

        Returns
        -------
        Tensor, shape (B, members, C, frames, Y, X)
            Whole tokens in which something was not known, NaN elsewhere.
        """
        check_as_read(self.finer)
        frames = x.shape[2] if frames is None else frames
        read = self.read(x, when, latitude, longitude, resolution, present)
        targets = {
            name: _late(
                _tokens_of(~part.isfinite(), spec).flatten(5).any(-1), frames, spec
            )
            for name, spec, part in self._parts(x, present)
            if name in self.predicted
        }
        wanted = {name: target for name, target in targets.items() if target.any()}
        members = self.answer(read, wanted, present)
        out = [
            self._placed(spec, targets.get(name), members.get(name), part, frames)
            for name, spec, part in self._parts(x, present)
        ]
        return torch.cat(out, 2)

    def refine(
        self,
        x: Tensor,
        when: Tensor,
        latitude: Tensor,
        longitude: Tensor,
        resolution: float | Tensor,
        frames: int | None = None,
        present: Present | None = None,
        conserve: bool = True,
        members: Tensor | None = None,
    ) -> Tensor:
        """Give fields on a finer grid; other arguments as for :meth:`predict`.

        Parameters
        ----------
        frames : int, optional
            How many of the last times are wanted; all if not given. Released networks
            learnt the last one alone.
        conserve : bool
            Let the means of fine cells be the coarse values, where these are known.
        members : Tensor of int, shape (E,), optional
            Which members are wanted; all if not given.

        Returns
        -------
        Tensor, shape (B, E, C, frames, finer Y, finer X)
            NaN in fields that are only read. A coarse value that is missing is first
            filled as for :meth:`predict`.

        Raises
        ------
        xatmo.errors.OptionError
            If tails give the grid that is read: ``finer=1``.
        """
        check_refines(self.finer)
        frames = x.shape[2] if frames is None else frames
        read = self.read(x, when, latitude, longitude, resolution, present)
        targets = {
            name: late_tokens(part, spec, frames)
            for name, spec, part in self._parts(x, present)
            if name in self.predicted
        }
        told = (read.tokens, read.info, targets, _there(present))
        found = self.forward(*told, members)
        guess = read.tokens if read.guess is None else read.guess
        shape = (self.members if members is None else len(members), frames, self.finer)
        out = [
            finer_field(
                found.get(name), guess[name], part, spec, shape, conserve=conserve
            )
            for name, spec, part in self._parts(x, present)
        ]
        return torch.cat(out, 2)

    def read(
        self,
        x: Tensor,
        when: Tensor,
        latitude: Tensor,
        longitude: Tensor,
        resolution: float | Tensor,
        present: Present | None = None,
    ) -> Read:
        """Cut boxes into tokens; arguments as for :meth:`predict`.

        ``resolution`` may be one number for each box.
        """
        read = Read()
        read.guess = None if self.guess == "zero" else {}
        spacing = torch.as_tensor(resolution, dtype=x.dtype, device=x.device)
        spacing = spacing.expand(len(x))
        for name, spec, part in self._parts(x, present):
            seen = part.isfinite()
            known = torch.where(seen, part, 0.0)
            there = _tokens_of(seen.to(x.dtype), spec)
            if read.guess is None:
                read.tokens[name] = _tokens_of(known, spec)
            else:
                guess = _tokens_of(self._guessed(known, seen), spec)
                read.guess[name] = guess
                read.tokens[name] = torch.cat([guess, there], -1)
            share = there.flatten(5).mean(-1)
            levels = dict(present)[name] if present else range(spec.levels)
            numbers = [self.level_numbers[name][level] for level in levels]
            where = (when, latitude, longitude, spacing)
            read.info[name] = place_info(
                spec,
                numbers,
                share,
                *where,
                published=self.info == "published",
                fractional_day=self.fractional_day,
            )
        return read

    def _guessed(self, x: Tensor, seen: Tensor) -> Tensor:
        """Fill (B, C, T, Y, X) from the times around, and perhaps the points around."""
        return from_both(x, seen) if self.guess == "around" else between_times(x, seen)

    def states(
        self,
        x: Tensor,
        when: Tensor,
        latitude: Tensor,
        longitude: Tensor,
        resolution: float,
        layer: int | None = None,
        present: Present | None = None,
    ) -> Tensor:
        """Return what encoders know of the last tokens in time; arguments as above.

        Parameters
        ----------
        layer : int, optional
            After how many layers; after all if not given.

        Returns
        -------
        Tensor, shape (B, D, Y, X)
            Features of all fields one after the other, means over levels, on the tokens
            of the field that has most of them; the nearest token of others.
        """
        read = self.read(x, when, latitude, longitude, resolution, present)
        states = self.encode(read.tokens, read.info, layer, _there(present))
        last = []
        for name, spec, _ in self._parts(x, present):
            plane = states[name][-1].unflatten(1, (-1, *spec.tokens))
            last.append(plane[:, :, -1].mean(1).movedim(-1, 1))  # (B, D, Y, X)
        most = max((part.shape[2:] for part in last), key=math.prod)
        return torch.cat([F.interpolate(part, most) for part in last], 1)

    def attention_maps(
        self,
        x: Tensor,
        when: Tensor,
        latitude: Tensor,
        longitude: Tensor,
        resolution: float,
        present: Present | None = None,
        **asked: Any,
    ) -> Tensor:
        """Return what the tokens at one place of boxes attend to.

        Parameters
        ----------
        x, when, latitude, longitude, resolution, present
            As for :meth:`predict`.
        **asked
            Where and of what: see
            :func:`xatmo.nets.multiformer_maps.attention_maps`.

        Returns
        -------
        Tensor, shape (B, asking, sources, layers, heads, T, Y, X)
        """
        read = self.read(x, when, latitude, longitude, resolution, present)
        said = {**asked, "present": _there(present)}
        return attention_maps(self, read.tokens, read.info, **said)

    def split(self, x: Tensor, present: Present | None = None) -> dict[str, Tensor]:
        """Cut channels (B, C, T, Y, X) into tokens of fields (B, V, ..., t, y, x)."""
        return {
            name: _tokens_of(part, spec) for name, spec, part in self._parts(x, present)
        }

    def answer(
        self, read: Read, targets: Mapping[str, Tensor], present: Present | None = None
    ) -> dict[str, Tensor]:
        """Predict tokens of each field (n, E, t, y, x), the guess included.

        ``targets`` (B, V, T, Y, X) say which, as for
        :meth:`xatmo.nets.multiformer.Multiformer.forward`.
        """
        check_as_read(self.finer)
        if not targets:
            return {}
        members = self.forward(read.tokens, read.info, targets, _there(present))
        if read.guess is None:
            return members
        return {
            name: found + read.guess[name][targets[name]][:, None]
            for name, found in members.items()
        }

    # --- Parts --------------------------------------------------------------------

    def _parts(
        self, x: Tensor, present: Present | None
    ) -> Iterator[tuple[str, FieldSpec, Tensor]]:
        """Name, what there is of it and channels (B, V, T, Y, X) of each field."""
        start = 0
        some = self.there(_there(present))
        for name, levels in some.items():
            spec = self.fields[name].only(levels, some)
            yield name, spec, x[:, start : start + len(levels)]
            start += len(levels)

    def _placed(
        self,
        spec: FieldSpec,
        target: Tensor | None,
        members: Tensor | None,
        part: Tensor,
        frames: int,
    ) -> Tensor:
        """Put tokens into their places: (B, E, V, frames, Y, X), NaN elsewhere."""
        count = self.members
        if target is None or members is None:
            shape = (len(part), count, part.shape[1], frames, *part.shape[3:])
            return part.new_full(shape, math.nan)
        late = -(-frames // spec.token_size[0])  # tokens that these times touch
        target = target[:, :, -late:]
        shape = (*target.shape, count, *spec.token_size)
        out = members.new_full(shape, math.nan)
        out[target] = members
        return detokenize(out.movedim(5, 1))[:, :, :, -frames:]


def _tokens_of(part: Tensor, spec: FieldSpec) -> Tensor:
    return tokenize(part, spec.token_size)


def _late(target: Tensor, frames: int, spec: FieldSpec) -> Tensor:
    """Tokens (B, V, T, Y, X) that touch the last times."""
    late = -(-frames // spec.token_size[0])
    late_only = torch.zeros_like(target)
    late_only[:, :, -late:] = target[:, :, -late:]
    return late_only


def _there(present: Present | None) -> dict[str, Sequence[int]] | None:
    return None if present is None else dict(present)
