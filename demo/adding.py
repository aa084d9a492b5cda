"""A new adapter on the page: where its files come from, and its proof, told step by step."""

from __future__ import annotations

import queue
import re
import shutil
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path

from adapter_hub import AdapterHub, AdapterInfo
from adapter_hub.errors import RequestError
from adapter_hub.loading import STEPS, watching

from .access import Access
from .asking import sentence
from .markup import notice

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Proof:
    """How far an adapter has come.

    Args:
        name: what it is to be called.
        found: by step that it has passed, what was found.
        info: what was recorded of it, once all went well.
        error: why it was refused, as a sentence.
    """

    name: str
    found: dict[str, str] = field(default_factory=dict)
    info: AdapterInfo | None = None
    error: str = ""


def prove(hub: AdapterHub, name: str, ref: str | Path) -> Iterator[Proof]:
    """Register an adapter and say how far it has come, after each step and at the end."""
    told: queue.SimpleQueue[tuple[str, str] | AdapterInfo | Exception] = queue.SimpleQueue()

    def work() -> None:
        try:
            with watching(lambda step, found: told.put((step, found))):
                told.put(hub.register(name, ref))
        except Exception as error:
            told.put(error)

    threading.Thread(target=work, name="demo-proof", daemon=True).start()
    proof = Proof(name)
    yield proof
    while proof.info is None and not proof.error:
        news = told.get()
        if isinstance(news, tuple):
            proof = replace(proof, found={**proof.found, news[0]: news[1]})
        elif isinstance(news, Exception):
            proof = replace(proof, error=sentence(news))
        else:
            proof = replace(proof, info=news)
        yield proof


def gather(files: Sequence[str], access: Access) -> Path:
    """Uploaded files in a folder of their own.

    Raises:
        RequestError: two of them have one name.
    """
    names = [Path(file).name for file in files]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise RequestError(
            f"several of the uploaded files are called {doubled[0]!r}.", hint="Upload one adapter at a time."
        )
    folder = access.uploads / uuid.uuid4().hex
    folder.mkdir(parents=True)
    for file, name in zip(files, names, strict=True):
        shutil.move(file, folder / name)
    return folder


def check_reference(text: str, access: Access) -> str:
    """What somebody wrote of where an adapter lies, if they may ask for that.

    Raises:
        RequestError: it is empty, or no Hub id where nothing else may be asked for.
    """
    ref = text.strip()
    if not ref:
        raise RequestError("one adapter is added at a time.", hint="Upload its files, or write where it lies.")
    # A folder that is called as a Hub id is would be read from this machine, so it must not be there either.
    if not access.paths and (not _HUB_ID.fullmatch(ref) or Path(ref).exists()):
        raise RequestError(f"{ref!r} is no id of a Hub repo.", hint="Write org/name, or upload the files.")
    return ref


def proof_lines(proof: Proof) -> str:
    """The proof as a list: what was passed with what was found, what failed and why, what was not reached."""
    lines, failed, ended = [], False, bool(proof.error or proof.info)
    for step, means in STEPS.items():
        if step in proof.found:
            lines.append(_line("passed", "✓", means, proof.found[step]))
        elif proof.error and not failed:
            failed = True
            lines.append(_line("failed", "✗", means, proof.error))
        else:
            lines.append(_line("waits", "·", means, "not reached" if ended else ""))
    if proof.error and not failed:
        lines.append(_line("failed", "✗", "it is recorded", proof.error))
    elif proof.info is not None:
        lines += [_line("warned", "!", "but", warning) for warning in proof.info.warnings]
        lines.append(_line("passed", "✓", "it is recorded", f"as {proof.info.key}, a {proof.info.variant} adapter"))
    return f'<ul class="hub-proof" role="status">{"".join(lines)}</ul>'


def _line(kind: str, mark: str, means: str, found: str) -> str:
    words = {"passed": "passed", "failed": "failed", "waits": "waits", "warned": "warning"}[kind]
    return (
        f'<li class="hub-{kind}"><span aria-label="{words}">{mark}</span><b>{escape(means)}</b>'
        f"<span>{escape(found)}</span></li>"
    )


def adding(
    hub: AdapterHub, files: Sequence[str], ref: str, name: str, access: Access
) -> Iterator[tuple[str, AdapterInfo | None]]:
    """Add what was uploaded or named: HTML of the proof as it grows, and at the end what was recorded, if anything."""
    folder: Path | None = None
    try:
        wanted = name.strip() or _name_of(ref, files)
        if files and not ref.strip():
            source: str | Path = (folder := gather(files, access))
        else:
            source = check_reference("" if files else ref, access)
        for proof in prove(hub, wanted, source):
            if folder is not None:
                if _is_idle(proof, folder):
                    shutil.rmtree(folder, ignore_errors=True)
                proof = replace(proof, error=_of_upload(proof.error, folder, files))
            yield proof_lines(proof), proof.info
    except Exception as error:
        yield notice(sentence(error)), None


def _of_upload(error: str, folder: Path, files: Sequence[str]) -> str:
    """An error in a user's words: they know their files, and not where those lie on this machine."""
    error = error.replace(f"{folder}/", "").replace(str(folder), "the upload")
    error = error[:1].upper() + error[1:] if error.startswith("the upload") else error
    if "config" in error and not any(Path(file).suffix == ".json" for file in files):
        error += " If an adapter_config.json belongs to it, drop it beside it."
    return error


def _is_idle(proof: Proof, folder: Path) -> bool:
    """Whether nothing will be served from an uploaded folder: it was refused, or its content was known already."""
    return bool(proof.error) or (proof.info is not None and folder.resolve() not in _within(Path(proof.info.folder)))


def _within(path: Path) -> tuple[Path, ...]:
    return (path.resolve(), *path.resolve().parents)


def _name_of(ref: str, files: Sequence[str]) -> str:
    """What to call an adapter that nobody named: after where it lies."""
    last = Path(ref.strip()).name if ref.strip() else (Path(files[0]).stem if len(files) == 1 else "uploaded")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-._") or "uploaded"
