"""The shell task: commands a shell can read, and requests that say everything the command does."""

import re
import subprocess

import pytest

from demo.tasks import get_task
from demo.tasks.shell import normalised
from demo.tasks.shell_names import ARCHIVES, FOLDERS, OTHER_EXTENSIONS, STEMS, TEXT_EXTENSIONS, WORDS
from demo.tasks.shell_requests import REQUESTS

SLOT = re.compile(r"{\w+}")


def test_every_wording_names_what_its_command_takes():
    for command, wordings in REQUESTS:
        assert len(wordings) >= 2
        for wording in wordings:
            assert set(SLOT.findall(wording)) == set(SLOT.findall(command)), command


def test_no_wording_asks_for_two_commands():
    wordings = [wording for _, some in REQUESTS for wording in some]
    assert len(set(wordings)) == len(wordings)


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_bash_can_read_every_command(split):
    examples = get_task("shell").examples(split, 500, 1)
    script = "\n".join(example.answer for example in examples)
    # -n reads without running anything.
    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert done.returncode == 0
    assert not done.stderr


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_names_in_a_command_stand_in_the_request(split):
    for example in get_task("shell").examples(split, 2000, 2):
        names = re.findall(r"(?<![\w.-])[A-Za-z]\w*(?:[./-]\w+)+|(?<=\*)\.\w+|\b\d+\b", example.answer)
        request = example.prompt.split("\n\n", 1)[1]
        assert all(name in request for name in names), example


def test_the_splits_share_no_names():
    for pool in (ARCHIVES, FOLDERS, OTHER_EXTENSIONS, STEMS, TEXT_EXTENSIONS, WORDS):
        assert not set(pool["train"]) & set(pool["held_out"])


def test_only_spaces_quotes_and_the_prompt_sign_are_ignored():
    answer = "find docs -name '*.txt' | wc -l"
    score = get_task("shell").score
    assert score(answer, '$ find docs  -name "*.txt" | wc -l\n')
    assert score(answer, f"```sh\n{answer}\n```")
    for other in ("find docs -name *.txt | wc -l", "find Docs -name '*.txt' | wc -l", "find docs -name '*.txt'"):
        assert normalised(other) != normalised(answer)
