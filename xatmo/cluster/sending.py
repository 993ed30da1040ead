"""Carry models to the workers of a cluster, once to each."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from xatmo.errors import OptionError
from xatmo.zoo import Card, Model, load_model, weights_path

if TYPE_CHECKING:
    from distributed import Client

    from xatmo.cluster.plugin import ModelPlugin

__all__ = ["send_models"]

_LARGEST = 2**31 - 2**20  # bytes of one message of Dask's


def send_models(client: Client, *models: str | Model) -> None:
    """Give the workers of a cluster the weights that they cannot fetch by themselves.

    Each worker gets a model once, over the connection to its scheduler: no internet, no
    common home, no common installation folder is needed. It keeps the model in its
    local folder (``--local-directory``), under the sha256, for itself and for the
    others on its machine. Workers that come later, or again, get it when they come.

    Parameters
    ----------
    client : distributed.Client
    *models : str or Model
        As for :func:`xatmo.load_model`; one that is not here is fetched first.

    Raises
    ------
    xatmo.errors.OptionError
        If none is named, or one is too large for a message.
    xatmo.errors.ModelNotFoundError, xatmo.errors.DownloadError
        If there is no such model here.
    xatmo.errors.WeightsError
        If a worker received other bytes than were sent.
    xatmo.errors.DownloadError
        If a worker cannot write to its folder.

    Examples
    --------
    >>> from distributed import Client  # doctest: +SKIP
    >>> import xatmo.cluster
    >>> client = Client("tcp://node1:8786")  # doctest: +SKIP
    >>> xatmo.cluster.send_models(client, "multiformer-small")  # doctest: +SKIP
    """
    if not models:
        msg = "No model is named."
        hint = (
            'xatmo.cluster.send_models(client, "NAME"); xatmo.list_models() has names'
        )
        raise OptionError(msg, found="none", needed="one or several", hint=hint)
    for model in models:
        _send(client, _plugin(load_model(model)))


def _send(client: Client, plugin: ModelPlugin) -> None:
    try:
        client.register_plugin(plugin, name=plugin.name)
    except Exception:
        # Some worker is without it: the next call has to begin anew.
        with contextlib.suppress(Exception):
            client.unregister_worker_plugin(plugin.name)
        raise


def _plugin(model: Model) -> ModelPlugin:
    from xatmo.cluster.plugin import ModelPlugin

    files = _files(model.card)
    size = sum(map(len, files.values()))
    if size > _LARGEST:
        msg = f"{model.name} is too large to be sent."
        raise OptionError(
            msg,
            found=f"{size:,} bytes",
            needed=f"no more than {_LARGEST:,} in one message",
            hint="put the model's folder on a disk that all workers see, and "
            "XATMO_MODELS_URL=THAT_DISK in their environment",
        )
    return ModelPlugin(model.key, files)


def _files(card: Card) -> dict[str, bytes]:
    """Return what a folder of the model needs, by the names in it."""
    # As text from what was read, not the file: the user may have changed it since.
    files = {
        "card.toml": card.to_toml().encode(),
        card.weights.file: weights_path(card).read_bytes(),
    }
    if card.box is not None and card.box.local is not None and card.folder is not None:
        files[card.box.local] = (card.folder / card.box.local).read_bytes()
    return files
