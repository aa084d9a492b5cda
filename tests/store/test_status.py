"""What hubs tell other processes: while they run, and not after."""

from __future__ import annotations

import os
import subprocess
import sys

from adapter_hub.store import StatusFile, running

SPEAKER = """
import sys, time
from pathlib import Path
from adapter_hub.store import StatusFile
status = StatusFile(Path(sys.argv[1]))
status.write({"word": "from afar"})
print("said", flush=True)
time.sleep(60)
"""


def test_the_latest_word_stands_until_it_is_taken_back(tmp_path):
    registry = tmp_path / "r.sqlite3"
    assert running(registry) == []
    first, second = StatusFile(registry), StatusFile(registry)
    first.write({"word": 1})
    second.write({"word": 2})
    first.write({"word": 3})
    assert sorted(status["word"] for status in running(registry)) == [2, 3]
    assert {status["pid"] for status in running(registry)} == {os.getpid()}
    first.close()
    first.write({"word": 4})
    assert [status["word"] for status in running(registry)] == [2]
    second.close()
    second.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_has_left_is_cleared_away(tmp_path):
    registry = tmp_path / "r.sqlite3"
    process = subprocess.Popen([sys.executable, "-c", SPEAKER, str(registry)], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "said\n"
        (status,) = running(registry)
        assert (status["pid"], status["word"]) == (process.pid, "from afar")
        process.kill()
        process.wait()
    assert running(registry) == []
    assert list(tmp_path.glob("r.sqlite3.running/*")) == []


def test_a_registry_in_memory_says_nothing_and_a_folder_that_cannot_be_made_harms_nobody(tmp_path):
    StatusFile(None).write({"word": 1})
    (tmp_path / "r.sqlite3.running").write_text("a file in its place")
    status = StatusFile(tmp_path / "r.sqlite3")
    status.write({"word": 1})
    status.close()
    assert running(tmp_path / "r.sqlite3") == []
