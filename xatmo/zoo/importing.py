"""import_model(): published models of other formats, as models like our own."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from xatmo.errors import OptionError, WeightsError
from xatmo.zoo.imported import (
    NewModel,
    local_tensors,
    place,
    readme_of,
    scratch_folder,
)
from xatmo.zoo.importers.atmorep import Original, find_original, read_weights
from xatmo.zoo.importers.atmorep_card import card_of_original
from xatmo.zoo.importers.atmorep_normalization import read_statistics
from xatmo.zoo.importers.climax import (
    climax_from_original,
    climax_options,
    read_checkpoint,
)
from xatmo.zoo.importers.climax_card import card_of_climax
from xatmo.zoo.importers.multiformer import (
    is_first_generation,
    multiformer_from_atmorep,
    multiformer_options,
)
from xatmo.zoo.model import Model

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["import_model", "unpack"]

_HOW = "Imported from the published files"
_CHECKPOINTS = (".ckpt", ".pt", ".pth")


def import_model(
    path: str | os.PathLike[str],
    *,
    normalization: str | os.PathLike[str] | None = None,
    name: str | None = None,
    epoch: int | None = None,
    variables: Sequence[str] | None = None,
    heads: int | None = None,
) -> Model:
    """Make a published AtmoRep or ClimaX model one of this package.

    It is written once, as a folder with a card and safetensors weights, into
    ``imported`` in the cache folder (``XATMO_CACHE``), and is found by its name from
    then on, by this and by every other process. Nothing that a file holds is run.

    Parameters
    ----------
    path : path
        The folder ``id<ID>`` of either generation of the original, one above it, or the
        archive ``model_id<ID>.tar.gz``; or a checkpoint ``*.ckpt`` of ClimaX, of either
        vintage.
    normalization : path, optional
        A folder with the original files of statistics. Of their years and months a
        climatology of months is made. Without them the model has no constants: see
        :func:`xatmo.fit_normalization`. Of AtmoRep only; ClimaX takes those of ERA5.
    name : str, optional
        ``atmorep-<ID>``, or ``climax-`` and the name of the file, if not given.
    epoch : int, optional
        Which of several files of weights; the final or last one if not given. Of
        AtmoRep only.
    variables : sequence of str, optional
        Of ClimaX: what the network was trained with, in its order; the 48 variables of
        the published ones if not given.
    heads : int, optional
        Of ClimaX: the heads of attention, 16 if not given.

    Returns
    -------
    Model

    Raises
    ------
    xatmo.errors.OptionError
        If there is no such model, there are several, another has this name, or an
        argument is not for such a model.
    xatmo.errors.WeightsError
        If files are damaged, are of a network that cannot be read, or hold code.
    xatmo.errors.DownloadError
        If the cache folder cannot be written.

    References
    ----------
    Lessig, C., Luise, I., Gong, B., Langguth, M., Stadtler, S. and Schultz, M. (2023):
    AtmoRep: A stochastic model of atmosphere dynamics using large scale representation
    learning. https://arxiv.org/abs/2308.13280

    Nguyen, T., Brandstetter, J., Kapoor, A., Gupta, J. K. and Grover, A. (2023):
    ClimaX: A foundation model for weather and climate.
    https://arxiv.org/abs/2301.10343

    Examples
    --------
    >>> import xatmo
    >>> model = xatmo.import_model("models/5.625deg.ckpt")  # doctest: +SKIP
    >>> model = xatmo.import_model("models/idwc5e2i3t")  # doctest: +SKIP
    >>> norm = xatmo.fit_normalization(ds, model, by="month")  # doctest: +SKIP
    >>> model = model.with_normalization(norm)  # doctest: +SKIP
    """
    file = Path(path).expanduser()
    if file.suffix in _CHECKPOINTS:
        _refuse(file, normalization=normalization, epoch=epoch)
        return _imported_checkpoint(file, name, variables, heads)
    _refuse(file, variables=variables, heads=heads)
    if file.is_file():
        with scratch_folder() as scratch:
            unpack(file, scratch)
            return _imported(find_original(scratch, epoch), normalization, name, epoch)
    return _imported(find_original(file, epoch), normalization, name, epoch)


def unpack(archive: Path, folder: Path) -> None:
    """Take a model's files out of an archive, whatever folders it has them in.

    Raises
    ------
    xatmo.errors.WeightsError
        If it is damaged, or has files that would go elsewhere.
    """
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                _check_member(archive, member)
                stream = tar.extractfile(member) if member.isfile() else None
                if stream is not None and member.name.endswith((".mod", ".json")):
                    with stream, (folder / Path(member.name).name).open("xb") as out:
                        while block := stream.read(2**22):
                            out.write(block)
    except (tarfile.TarError, EOFError, OSError) as error:
        # Python's own words for what is wrong with a compressed stream are all OSError.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        msg = f"{archive} is not a whole archive of a model."
        needed = "an archive model_id<ID>.tar.gz, as its authors publish it"
        hint = "download it again"
        found = f"{type(error).__name__}: {error}"
        raise WeightsError(msg, found=found, needed=needed, hint=hint) from error


def _check_member(archive: Path, member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name)
    plain = member.isfile() or member.isdir()
    if plain and not path.is_absolute() and ".." not in path.parts:
        return
    msg = f"{archive} is refused: it would write outside its folder."
    needed = "plain files and folders, as published"
    hint = "download it again, from the model's authors"
    raise WeightsError(msg, found=member.name, needed=needed, hint=hint)


def _imported(
    original: Original,
    normalization: str | os.PathLike[str] | None,
    name: str | None,
    epoch: int | None,
) -> Model:
    theirs = read_weights(original)
    first = is_first_generation(theirs)
    options = _options(original, first)
    state = _translated(theirs, options)
    constants = {}
    if normalization is not None:
        constants = read_statistics(normalization, original.config, first)
    suffix = "" if epoch is None else f"-epoch{epoch}"
    called = name or f"atmorep-{original.id}{suffix}"
    contents = card_of_original(original, called, options, constants, first)
    local = local_tensors(constants)
    card = place(NewModel(contents, state, local, readme_of(contents, _HOW)))
    return Model(card, card.key())


def _imported_checkpoint(
    file: Path, name: str | None, variables: Sequence[str] | None, heads: int | None
) -> Model:
    """Import a checkpoint of ClimaX."""
    import torch

    from xatmo.nets.climax import ClimaX

    theirs = read_checkpoint(file)
    options = climax_options(theirs, variables, heads=16 if heads is None else heads)
    with torch.device("meta"):
        network = ClimaX(**options)
    state = climax_from_original(theirs, network, variables)
    _check_finite(state)
    contents = card_of_climax(name or f"climax-{file.stem}", options)
    card = place(NewModel(contents, state, {}, readme_of(contents, _HOW)))
    return Model(card, card.key())


def _refuse(file: Path, **arguments: Any) -> None:
    """Refuse arguments that are for models of the other kind."""
    given = [key for key, value in arguments.items() if value is not None]
    if given:
        msg = f"{given[0]}= says nothing of such a model."
        needed = "epoch and normalization for AtmoRep; variables and heads for a *.ckpt"
        hint = f"xatmo.import_model({str(file)!r})"
        raise OptionError(msg, found=f"{given[0]}=, {file}", needed=needed, hint=hint)


def _options(original: Original, first_generation: bool) -> dict[str, Any]:
    """Arguments of the network, with what it has to know of boxes."""
    try:
        options = multiformer_options(original.config, first_generation)
        numbers = {entry[0]: list(entry[2]) for entry in original.config["fields"]}
    except (IndexError, KeyError, TypeError, ValueError) as error:
        msg = f"The settings of {original.id} are not those of a model."
        needed = "fields of name, network, levels, tokens, size of tokens, masking"
        hint = "download the model again"
        found = f"{type(error).__name__}: {error}"
        raise WeightsError(msg, found=found, needed=needed, hint=hint) from error
    return options | {
        "level_numbers": numbers,
        "guess": "zero",
        "info": "published",
        "fractional_day": first_generation,
    }


def _translated(
    theirs: dict[str, Tensor], options: dict[str, Any]
) -> dict[str, Tensor]:
    import torch

    from xatmo.nets.multiformer_box import BoxMultiformer

    try:
        with torch.device("meta"):  # shapes are enough, and weights have gigabytes
            network = BoxMultiformer(**options)
    except OptionError as error:
        msg = "The settings are of a network that cannot be built."
        found, hint = f"{error.problem} {error.found}", "download the model again"
        raise WeightsError(msg, found=found, needed=error.needed, hint=hint) from error
    state = multiformer_from_atmorep(theirs, network)
    _check_finite(state)
    return state


def _check_finite(state: Mapping[str, Tensor]) -> None:
    broken = [key for key, tensor in state.items() if not tensor.isfinite().all()]
    if broken:
        msg = "Some weights are not finite numbers."
        needed, hint = "finite numbers", "download the model again"
        raise WeightsError(msg, found=broken[0], needed=needed, hint=hint)
