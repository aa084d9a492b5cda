"""Digests: of content, whatever the folder; remembered only while a file surely stays as it is."""

from __future__ import annotations

import os
import time

import pytest

import adapter_hub.loading.digest as digest
from adapter_hub.loading.digest import Digests


def _write(path, content, age=10.0):
    path.write_bytes(content)
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def test_the_digest_is_that_of_names_and_contents(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    first = [_write(tmp_path / "x" / name, name.encode()) for name in ("a", "b", "c")]
    same = [_write(tmp_path / "y" / name, name.encode()) for name in ("c", "a", "b")]
    assert Digests().content(first) == Digests().content(same)
    assert Digests().content(first) != Digests().content(first[:2])
    _write(same[0], b"other")
    assert Digests().content(first) != Digests().content(same)
    _write(same[0], b"")
    assert len(Digests().content(same)) == 64
    with pytest.raises(OSError, match="missing"):
        Digests().content([tmp_path / "missing"])


def test_a_settled_file_is_hashed_once_and_a_changed_one_again(tmp_path, monkeypatch):
    hashed = []
    real = digest._hash
    monkeypatch.setattr(digest, "_hash", lambda path: hashed.append(path) or real(path))
    monkeypatch.setattr(digest, "SETTLED_NS", -1)
    path, digests = _write(tmp_path / "a", b"one"), Digests()
    first = digests.content([path])
    assert digests.content([path]) == first
    assert len(hashed) == 1
    before = path.stat()
    while path.stat().st_ctime_ns == before.st_ctime_ns:  # within one tick of the kernel's clock nothing shows
        path.write_bytes(b"two")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # the time of writing can be set back,
    assert digests.content([path]) != first  # that of the change cannot
    assert len(hashed) == 2


def test_a_file_that_has_just_changed_is_not_trusted(tmp_path, monkeypatch):
    path, digests = _write(tmp_path / "a", b"one"), Digests()
    monkeypatch.setattr(time, "time_ns", lambda: path.stat().st_ctime_ns + 1_000_000_000)
    first = digests.content([path])
    assert not digests._known, "its change may lie within one tick of the clock"
    path.write_bytes(b"two")
    assert digests.content([path]) != first
    monkeypatch.setattr(time, "time_ns", lambda: path.stat().st_ctime_ns + 3_000_000_000)
    digests.content([path])
    assert digests._known
