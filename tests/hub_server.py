"""A small Hugging Face Hub on loopback: the routes that its client downloads through, and their failures."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
import threading
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import unquote, urlsplit

READER = "hf_reader"  # a login that may read everything
STRANGER = "hf_stranger"  # a login that is valid and may read only what is public

INFO = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)(?:/revision/(?P<revision>[^/]+))?")
TREE = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)")
FILE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")


def commit_of(word: str) -> str:
    """A commit hash that a test can name."""
    return hashlib.sha1(word.encode()).hexdigest()


_DEAF = socket.socket()  # held and never listening: nobody else can get its port while the tests run
_DEAF.bind(("127.0.0.1", 0))


def refusing_url() -> str:
    """An endpoint on this machine that refuses connections."""
    return f"http://127.0.0.1:{_DEAF.getsockname()[1]}"


@dataclass(frozen=True)
class Request:
    """One request as it came in; ``token`` and ``range`` are None where the header was not sent."""

    method: str
    path: str
    token: str | None
    range: str | None


@dataclass
class Repo:
    """A repository: the files of each commit, and the commit that each branch stands at."""

    private: bool
    gated: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)


class RefusedError(Exception):
    """An answer other than 200, with the headers by which the Hub says why."""

    def __init__(self, status: int, code: str | None, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class HubServer:
    """Serves repositories on a free port of 127.0.0.1 while its ``with`` block runs.

    Attributes:
        url: the endpoint to give to the client.
        requests: everything that was asked, in order.
        status: while it is not None, every request is answered with it (503: the Hub is down).
        wrong_answer: while it is not None, every request is answered with it (a hotel's login page).
        cut_after: bytes after which the next file's body ends and the connection with it; once.
        status_after_cut: what ``status`` becomes when that has happened.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.status: int | None = None
        self.wrong_answer: bytes | None = None
        self.cut_after: int | None = None
        self.status_after_cut: int | None = None
        self._repos: dict[str, Repo] = {}
        self._awake = threading.Event()
        self._awake.set()
        hub = self

        class Handler(_Handler):
            """Requests of this one hub."""

            server_state = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._awake.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add_repo(
        self,
        repo_id: str,
        files: dict[str, bytes],
        commit: str = commit_of("first"),
        *,
        branch: str = "main",
        private: bool = False,
        gated: bool = False,
    ) -> str:
        """Add a repository, or one more commit to it; ``branch`` then stands at it. Returns the commit."""
        repo = self._repos.setdefault(repo_id, Repo(private, gated))
        repo.commits[commit] = files
        repo.branches[branch] = commit
        return commit

    def fall_silent(self) -> None:
        """From now on accept connections and answer nothing, until the block ends."""
        self._awake.clear()

    def downloads(self) -> list[str]:
        """The names of the files whose content was asked for, in order."""
        matches = [FILE.fullmatch(r.path) for r in self.requests if r.method == "GET"]
        return [unquote(match["file"]) for match in matches if match]

    def listing(self, path: str, token: str | None) -> bytes:
        """The body of an API route."""
        self._refuse_if_down()
        if self.wrong_answer is not None:
            return self.wrong_answer
        if match := INFO.fullmatch(path):
            commit, files = self._commit(match["repo"], match["revision"] or "main", token)
            siblings = [{"rfilename": name} for name in files]
            return json.dumps({"id": match["repo"], "sha": commit, "siblings": siblings}).encode()
        if match := TREE.fullmatch(path):
            _, files = self._commit(match["repo"], match["revision"], token)
            entries = [
                {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
                for name, body in files.items()
            ]
            return json.dumps(entries).encode()
        raise RefusedError(404, None, "Sorry, we can't find the page you are looking for.")

    def content(self, repo_id: str, revision: str, name: str, token: str | None) -> tuple[str, bytes]:
        """The commit and the body of one file."""
        self._refuse_if_down()
        commit, files = self._commit(repo_id, revision, token)
        if self._repos[repo_id].gated and token != READER:
            # Metadata of a gated repo is public, its files are not: so does the Hub.
            status = 401 if token is None else 403
            raise RefusedError(status, "GatedRepo", f"Access to model {repo_id} is restricted.")
        if unquote(name) not in files:
            raise RefusedError(404, "EntryNotFound", "Entry not found")
        return commit, files[unquote(name)]

    def _refuse_if_down(self) -> None:
        if self.status is not None:
            raise RefusedError(self.status, None, HTTPStatus(self.status).phrase)

    def _commit(self, repo_id: str, revision: str, token: str | None) -> tuple[str, dict[str, bytes]]:
        if token not in (None, READER, STRANGER):
            raise RefusedError(401, None, "Invalid credentials in Authorization header")
        repo = self._repos.get(repo_id)
        if repo is None or (repo.private and token != READER):
            # The Hub does not tell a private repo from a missing one, nor, without a login, either from both.
            if token is None:
                raise RefusedError(401, "RepoNotFound", "Invalid username or password.")
            raise RefusedError(404, "RepoNotFound", "Repository not found")
        commit = repo.branches.get(unquote(revision), unquote(revision))
        if commit not in repo.commits:
            raise RefusedError(404, "RevisionNotFound", f"Invalid rev id: {unquote(revision)}")
        return commit, repo.commits[commit]


class _Handler(BaseHTTPRequestHandler):
    server_state: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' stderr for the client."""

    def _answer(self, *, with_body: bool) -> None:
        hub = self.server_state
        path, sent = urlsplit(self.path).path, self.headers.get("Authorization")
        token = sent.removeprefix("Bearer ") if sent else None
        hub.requests.append(Request(self.command, path, token, self.headers.get("Range")))
        hub._awake.wait()
        try:
            if match := FILE.fullmatch(path):
                commit, body = hub.content(match["repo"], match["revision"], match["file"], token)
                self._send_file(commit, body, with_body)
            else:
                self._send(200, {}, hub.listing(path, token), with_body)
        except RefusedError as refused:
            headers = {"X-Error-Message": refused.message}
            if refused.code:
                headers["X-Error-Code"] = refused.code
            self._send(refused.status, headers, json.dumps({"error": refused.message}).encode(), with_body)

    def _send_file(self, commit: str, body: bytes, with_body: bool) -> None:
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha1(body).hexdigest()}"'}
        if wanted := self.headers.get("Range"):
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            self._send(206, headers, body[start:], with_body)
        else:
            self._send(200, headers, body, with_body)

    def _send(self, status: int, headers: dict[str, str], body: bytes, with_body: bool) -> None:
        hub = self.server_state
        self.close_connection = True  # no thread stays behind, waiting for a next request
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body)), "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        if not with_body:
            return
        if hub.cut_after is not None and "ETag" in headers:
            body, hub.cut_after, hub.status = body[: hub.cut_after], None, hub.status_after_cut
        with contextlib.suppress(ConnectionError):  # a client that has heard enough may hang up
            self.wfile.write(body)
