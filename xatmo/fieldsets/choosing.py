"""Which variables a user wants, by whatever name they are called."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

from xatmo.boxes.channels import Channel
from xatmo.errors import FieldNotFoundError, OptionError
from xatmo.zoo import Card
from xatmo.zoo.card import BoxField, FieldLevel

__all__ = ["chosen"]


def chosen(
    channels: Sequence[Channel], variables: str | Sequence[str] | None, card: Card
) -> tuple[int, ...]:
    """Return the numbers of the channels that are wanted, in their order.

    Parameters
    ----------
    channels : sequence of Channel
        What the data hold.
    variables : str or sequence of str, optional
        Names: of the user's variables, of the network's, or CF standard names, each of
        which stands for all levels that it is at. All channels if not given.
    card : Card

    Raises
    ------
    xatmo.errors.OptionError
        If a name is none of these.
    xatmo.errors.FieldNotFoundError
        If the model knows what is wanted, and the data do not hold it.
    """
    if variables is None:
        return tuple(range(len(channels)))
    wanted = [variables] if isinstance(variables, str) else list(variables)
    known = [_names(channel) for channel in channels]
    for name in wanted:
        if not any(name in names for names in known):
            raise _unknown(name, known, card)
    if not wanted:
        msg = "There is no variable in the list."
        hint = f"variables={channels[0].held.variable!r}"
        raise OptionError(msg, found="variables=[]", needed="at least one", hint=hint)
    return tuple(i for i, names in enumerate(known) if names & set(wanted))


def _names(channel: Channel) -> set[str]:
    held = channel.held
    return {held.variable, *_of_card(held.field, held.level)}


def _of_card(field: BoxField, level: FieldLevel) -> Iterator[str]:
    yield from (str(level.variable), field.name, field.quantity)


def _unknown(
    name: object, known: Sequence[set[str]], card: Card
) -> OptionError | FieldNotFoundError:
    ours = sorted(set().union(*known))
    theirs = {said for f in card.fields for lv in f.levels for said in _of_card(f, lv)}
    close = difflib.get_close_matches(str(name), ours, n=3) or ours[:3]
    hint = f"variables={close[:1]!r}"
    found, needed = f"variables: {name!r}", f"some of {', '.join(ours)}"
    if name in theirs:
        msg = f"The data do not hold {name!r}, from which it would be forecast."
        return FieldNotFoundError(msg, found=found, needed=needed, hint=hint)
    msg = f"There is no variable {name!r}."
    guess = f"; did you mean {' or '.join(map(repr, close))}?"
    return OptionError(msg, found=found + guess, needed=needed, hint=hint)
