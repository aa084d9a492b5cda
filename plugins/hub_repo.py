"""Source: a repository on the Hugging Face Hub, at a branch, tag or commit."""

from __future__ import annotations

import errno
import json
import logging
import re
from contextlib import suppress
from functools import partial
from pathlib import Path

from huggingface_hub import HfApi, constants, get_cached_repo_tree, snapshot_download
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # public, but exported at run time only
    filter_repo_objects,
    httpx,
    validate_repo_id,
)

from adapter_hub.config import Settings
from adapter_hub.errors import SourceError, SourceForbidden, SourceNotFound, SourceUnreachable, UnsafeFile
from adapter_hub.hookspecs import Fetched, Source, hookimpl

logger = logging.getLogger("adapter_hub.hub_repo")

WANTED = (
    *("*.json", "*.jinja", "*.safetensors", "*.gguf", "hyperparameters.yaml"),
    *("*.model", "*.spm", "*.tiktoken", "vocab*.txt", "merges*.txt"),
)
PICKLES = ("*.bin", "*.pt", "*.pth", "*.lora")
# Formats read the top folder only, so checkpoints in sub-folders are dead weight, as is a trainer's state.
UNWANTED = (
    "*/*",
    "optimizer*",
    "scheduler*",
    "scaler*",
    "rng_state*",
    "random_states*",
    "training_args*",
    "trainer_state*",
)

COMMIT = re.compile(r"[0-9a-f]{40}")
# The library joins a revision to its cache's path as it is: ``..`` would leave the cache.
REVISION = re.compile(r"(?!.*\.\.)[^/\s]\S*")

ANSWER_SECONDS = 5.0
LOGIN = "log in with `hf auth login` or set HF_TOKEN"


class HubRepo:
    """Takes ``org/name``, through huggingface_hub's own client, cache, login and progress bars.

    Args:
        endpoint: address of the Hub; None is the library's (HF_ENDPOINT).
        cache_dir: folder of the cache; None is the library's (HF_HUB_CACHE, HF_HOME).

    The library reads those variables once, at its import, so whoever needs another Hub or cache in the same
    process (the tests do) passes them here instead.
    """

    name = "hub"

    def __init__(self, endpoint: str | None = None, cache_dir: Path | None = None) -> None:
        """Remember where to ask; asks nothing."""
        self.endpoint = endpoint
        self.cache_dir = cache_dir

    def can_fetch(self, ref: str) -> bool:
        """True for a legal ``org/name`` that is not a path on this machine."""
        return _is_repo_id(ref) and not Path(ref).exists()

    def fetch(self, ref: str, revision: str | None, settings: Settings) -> Fetched:
        """Download the adapter's files, or take them from the cache; the revision returned is a commit hash.

        With the setting ``offline``, or when the Hub does not answer, what the cache holds of the revision is
        taken, if it is whole.

        Raises:
            SourceNotFound: no such repo (or a private one), no such revision, or no file of an adapter in it.
            SourceForbidden: the repo is gated or disabled, or the login is not valid.
            SourceUnreachable: the Hub does not answer, or offline, and the cache does not hold the revision.
            SourceError: the download broke, the disk is full, the address is not a Hub's.
            UnsafeFile: the weights are pickles only, and those are not allowed.
        """
        where = f"{ref} at revision {revision or constants.DEFAULT_REVISION}"
        if not _is_repo_id(ref) or (revision is not None and not REVISION.fullmatch(revision)):
            raise SourceNotFound(
                f"{where} cannot exist on the Hub: the name is not well-formed.",
                hint="Write org/name, and a branch, a tag or a commit as the revision.",
            )
        try:
            folder = self._snapshot(ref, revision, settings)
        except (OSError, httpx.HTTPError, httpx.InvalidURL, ValueError, RuntimeError) as error:
            raise self._explain(error, ref, where) from error
        self._check_left_out(ref, where, folder, settings)
        # The cache keeps a snapshot in a folder named after its commit, online and offline alike.
        return Fetched(folder, revision=folder.name)

    def _snapshot(self, ref: str, revision: str | None, settings: Settings) -> Path:
        download = partial(
            snapshot_download,
            ref,
            revision=revision,
            endpoint=self.endpoint,
            cache_dir=self.cache_dir,
            allow_patterns=[*WANTED, *(PICKLES if settings.allow_pickle else ())],
            ignore_patterns=[*UNWANTED],
            library_name="adapter_hub",
        )
        if settings.offline:
            return Path(download(local_files_only=True))
        if revision is not None and COMMIT.fullmatch(revision):
            # A commit never changes: the Hub is not asked for one that is whole. Only with the listing of its
            # files in the cache, too, can the library tell that it is.
            with suppress(CachedRepoTreeNotFoundError, LocalEntryNotFoundError):
                get_cached_repo_tree(ref, revision=revision, cache_dir=self.cache_dir)
                return Path(download(local_files_only=True))
        try:
            self._knock(ref, revision)
        except (httpx.HTTPError, OfflineModeIsEnabled) as error:
            if not _is_silence(error):
                raise
            try:
                folder = Path(download(local_files_only=True))
            except LocalEntryNotFoundError:
                raise error from None
            logger.warning("No answer from the Hub (%s): %s is read from the cache.", _words(error), folder)
            return folder
        return Path(download())

    def _knock(self, ref: str, revision: str | None) -> None:
        """Find out soon whether the Hub answers, and whether it shows the revision.

        The library's own first request has no time limit, and for a commit it retries a refused connection
        for 23 s (huggingface_hub 2.4).
        """
        # HF_HUB_ETAG_TIMEOUT wins, as it does in the library: a way out behind a slow proxy.
        chosen = constants.HF_HUB_ETAG_TIMEOUT
        timeout = ANSWER_SECONDS if chosen == constants.DEFAULT_ETAG_TIMEOUT else chosen
        HfApi(endpoint=self.endpoint, library_name="adapter_hub").repo_info(ref, revision=revision, timeout=timeout)

    def _check_left_out(self, ref: str, where: str, folder: Path, settings: Settings) -> None:
        """Say it here when the choice of files leaves no adapter; a format could only call it incomplete."""
        if any(path.suffix in (".safetensors", ".gguf") for path in folder.glob("*")):
            return
        names: list[str] = []
        with suppress(CachedRepoTreeNotFoundError):
            tree = get_cached_repo_tree(ref, revision=folder.name, cache_dir=self.cache_dir)
            names = [file.path for file in tree]
        pickles = list(filter_repo_objects(names, allow_patterns=[*PICKLES], ignore_patterns=[*UNWANTED]))
        if pickles and not settings.allow_pickle:
            raise UnsafeFile(
                f"{where} has its weights only as pickles ({', '.join(pickles)}), which can run code.",
                hint="Ask its authors for safetensors, or allow pickles with the setting allow_pickle.",
            )
        if not folder.is_dir():
            raise SourceNotFound(
                f"{where} has no file of an adapter (it has {', '.join(names[:5]) or 'nothing'}).",
                hint="The adapter has to lie at the top of the repo.",
            )

    def _explain(self, error: Exception, ref: str, where: str) -> SourceError:
        hub = self.endpoint or constants.ENDPOINT
        if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
            # The cache was the last resort; what made it so is the reason to tell.
            return self._explain(error.__cause__, ref, where)
        if isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled):
            switch = "HF_HUB_OFFLINE" if isinstance(error, OfflineModeIsEnabled) else "the setting offline"
            return SourceUnreachable(
                f"{where} is not, or not wholly, in the local cache, and {switch} forbids to ask {hub}.",
                hint=f"Fetch it once without {switch}.",
            )
        if isinstance(error, HfHubHTTPError):
            return _explain_answer(error, ref, where, hub)
        if isinstance(error, httpx.HTTPError | httpx.InvalidURL):
            return SourceUnreachable(
                f"{hub} cannot be reached for {where} ({_words(error)}), and it is not in the local cache.",
                hint="Check the network, the proxy and HF_ENDPOINT, and try again.",
            )
        if isinstance(error, OSError) and error.errno is not None:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            return SourceError(
                f"{where} cannot be kept in the cache {self.cache_dir or constants.HF_HUB_CACHE}: "
                f"{'the disk is full' if full else _words(error)}.",
                hint="Make room there, or set HF_HUB_CACHE to a folder with room that may be written.",
            )
        return SourceError(
            f"the download of {where} from {hub} failed: {_words(error)}.",
            hint="Try again; if HF_ENDPOINT is set, check that a Hub answers there.",
        )


def _explain_answer(error: HfHubHTTPError, ref: str, where: str, hub: str) -> SourceError:
    """The Hub answered, and its answer is no."""
    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        return SourceForbidden(
            f"{where} is gated: its authors give access only to those who accept their terms ({status}).",
            hint=f"Accept them at {hub}/{ref}, then {LOGIN}.",
        )
    if isinstance(error, RepositoryNotFoundError):
        return SourceNotFound(
            f"{where} is not shown by {hub} ({status}): there is no such repo, or it is private.",
            hint=f"Check the spelling; for a private repo, {LOGIN}.",
        )
    if isinstance(error, RevisionNotFoundError):
        return SourceNotFound(
            f"{where} does not exist: the repo is there, the revision is not ({status}).",
            hint=f"Name a branch, a tag or a commit from {hub}/{ref}/commits.",
        )
    if status in (401, 403):
        return SourceForbidden(
            f"{where} is refused by {hub} ({status}: {error.server_message or 'no reason given'}).",
            hint=f"If it needs a login, {LOGIN}; a token may be expired or lack the right to read this repo.",
        )
    if _is_silence(error):
        return SourceUnreachable(
            f"{hub} answers {status} for {where}, and it is not in the local cache.",
            hint="Too many requests: wait, or log in."
            if status == 429
            else "The Hub is busy or down; try again later.",
        )
    return SourceError(
        f"{hub} answers {status} for {where} ({error.server_message or 'no reason given'}).",
        hint="If HF_ENDPOINT is set, check that a Hub answers there.",
    )


def _is_repo_id(ref: str) -> bool:
    if ref.count("/") != 1:
        return False
    try:
        validate_repo_id(ref)
    except HFValidationError:
        return False
    return True


def _is_silence(error: Exception) -> bool:
    """Whether nothing was learnt about the repo: no answer, or one that only tells of the Hub's own state."""
    if not isinstance(error, HfHubHTTPError):
        return True
    return error.response.status_code >= 500 or error.response.status_code in (408, 429)


def _words(error: Exception) -> str:
    if isinstance(error, HfHubHTTPError):
        return f"status {error.response.status_code}"
    if isinstance(error, json.JSONDecodeError):
        return "the answer is not JSON, so it is not a Hub's"
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


@hookimpl
def adapter_hub_sources() -> list[Source]:
    """The one source here."""
    return [HubRepo()]
