"""A transformers checkpoint on disk, read tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import CorruptFile, SourceNotFound, SourceUnreachable
from .files import read_index

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
NEEDED = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")


class Checkpoint:
    """The tensors of a checkpoint folder, in one safetensors file or in shards with an index.

    Args:
        folder: what ``save_pretrained`` wrote.

    Raises:
        SourceNotFound: there is no such folder, or no safetensors checkpoint in it.
        CorruptFile: a file of it is missing or damaged, or its index leads out of the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if (folder / INDEX).is_file():
            self._files = self._indexed()
        elif (folder / SINGLE).is_file():
            self._files = dict.fromkeys(self._names(folder / SINGLE), folder / SINGLE)
        else:
            raise SourceNotFound(
                f"{folder} holds no checkpoint: neither {SINGLE} nor {INDEX} is there.",
                hint="Name a folder that save_pretrained wrote in safetensors.",
            )

    @property
    def names(self) -> list[str]:
        """Names of all tensors."""
        return sorted(self._files)

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def __getitem__(self, name: str) -> Tensor:
        """Read one tensor."""
        path = self._files[name]
        try:
            with safe_open(path, framework="pt") as opened:
                tensor: Tensor = opened.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise CorruptFile(f"tensor {name} of {path} cannot be read: {error}.", hint="Fetch it again.") from error
        return tensor

    def _indexed(self) -> dict[str, Path]:
        files = {name: self.folder / file for name, file in read_index(self.folder / INDEX).items()}
        held = {path: set(self._names(path)) for path in sorted(set(files.values()))}
        missing = next((name for name, path in files.items() if name not in held[path]), None)
        if missing is not None:
            raise CorruptFile(f"tensor {missing} is not in {files[missing]}, where the index has it.")
        return files

    def _names(self, path: Path) -> Iterator[str]:
        try:
            with safe_open(path, framework="pt") as opened:
                return iter(list(opened.keys()))
        except (SafetensorError, OSError) as error:
            raise CorruptFile(f"{path} cannot be read as safetensors: {error}.", hint="Fetch it again.") from error


def open_checkpoint(ref: str, *, offline: bool = False) -> Checkpoint:
    """The checkpoint in a folder, or of a Hub repository, which is fetched if need be.

    Raises:
        SourceNotFound: it does not exist.
        SourceUnreachable: the Hub does not answer.
        CorruptFile: its files are not in order.
    """
    folder = Path(ref).expanduser()
    if folder.is_dir():
        return Checkpoint(folder.resolve())
    try:
        return Checkpoint(Path(snapshot_download(ref, allow_patterns=list(NEEDED), local_files_only=offline)))
    except HFValidationError as error:
        raise SourceNotFound(f"{ref} is neither a folder nor a Hub id.", hint="Name a checkpoint.") from error
    except (LocalEntryNotFoundError, RepositoryNotFoundError) as error:
        why = str(error).rstrip(".")
        raise SourceNotFound(
            f"the checkpoint {ref} is no folder, and neither in the cache nor shown by the Hub: {why}.",
            hint="Check its name, and your login if it is private.",
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise SourceUnreachable(
            f"the checkpoint {ref} cannot be fetched: {str(error).rstrip('.')}.", hint="Try again, or name a folder."
        ) from error
