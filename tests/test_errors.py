"""The tree of errors is the one that its docstring draws."""

from __future__ import annotations

import re

from adapter_hub import errors


def _tree(kind, depth=0):
    yield depth, kind.__name__, kind.status
    for child in kind.__subclasses__():
        yield from _tree(child, depth + 1)


def test_the_drawing_is_the_tree():
    drawn = []
    for line in errors.__doc__.splitlines():
        found = re.match(r"([│ ├└─]*)(\w+) +(\d{3})", line)
        if found:
            drawn.append((len(found[1]) // 4, found[2], int(found[3])))
    assert drawn == list(_tree(errors.AdapterHubError))


def test_every_class_says_what_it_means():
    for _, name, _ in _tree(errors.AdapterHubError):
        assert getattr(errors, name).__doc__, name


def test_an_error_reads_as_a_sentence_and_a_way_out():
    error = errors.AdapterInUse("it is in use.", hint="Wait.")
    assert str(error) == "it is in use. Wait."
    assert (error.message, error.hint, error.status) == ("it is in use.", "Wait.", 409)
