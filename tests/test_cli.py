"""The parser, what errors look like, and what the light commands import."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from adapter_hub.cli import build_parser, main
from adapter_hub.commands import plugins
from adapter_hub.errors import CorruptFile, SettingError

COMMANDS = (
    """demo chat generate add list show remove versions rollback alias unalias pin unpin inspect plugins""".split()
)
DOCS = Path(__file__).parent.parent / "docs" / "command-line.md"


def subprocess_run(*argv: str, registry: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import sys; from adapter_hub.cli import main; sys.exit(main())", *argv]
    environment = {"ADAPTER_HUB_REGISTRY": str(registry), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch):
    """Make ``adapter-hub plugins`` raise an error, and return its exit code."""

    def run(error: BaseException, *argv: str) -> int:
        def raise_it(_: object) -> int:
            raise error

        monkeypatch.setattr(plugins, "list_plugins", raise_it)
        return main(argv or ["plugins"])

    return run


def test_every_command_has_help(capsys):
    for command in COMMANDS:
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
        assert f"adapter-hub {command}" in capsys.readouterr().out


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert re.fullmatch(r"adapter-hub \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["sing"],
        ["list", "--quantization", "nf4"],
        ["list", "--regis", "x"],
        ["list", "--limit", "many"],
        ["alias", "sql"],
        ["alias", "sql", "stable", "first"],
        ["rollback", "sql", "first"],
        ["generate"],
        ["generate", "hi", "--quantization", "int3"],
        ["generate", "hi", "--max-new-tokens", "many"],
        ["generate", "hi", "--cpu-kernel", "warp"],
        ["demo", "--port", "0"],
        ["demo", "--port", "http"],
        ["demo", "--port", "65536"],
        ["demo", "--dtype", "float32"],
    ],
)
def test_usage_errors_end_with_2(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_an_error_of_ours_is_one_line_with_its_hint(failing, capsys):
    assert failing(CorruptFile("the file\nis torn.", hint="Fetch it again.")) == 1
    assert capsys.readouterr().err == "adapter-hub: error: the file is torn. Fetch it again.\n"


def test_control_characters_of_a_file_do_not_reach_the_terminal(failing, capsys):
    assert failing(CorruptFile("tensor \x1b]0;owned\x07 is odd.")) == 1
    assert capsys.readouterr().err == r"adapter-hub: error: tensor \x1b]0;owned\x07 is odd." + "\n"


def test_a_wrong_setting_is_a_usage_error(failing):
    assert failing(SettingError("no.")) == 2


def test_a_wrong_environment_variable_is_a_usage_error(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("ADAPTER_HUB_REGISTRY", str(tmp_path / "r"))
    monkeypatch.setenv("ADAPTER_HUB_OFFLINE", "perhaps")
    assert main(["list"]) == 2
    assert "ADAPTER_HUB_OFFLINE" in capsys.readouterr().err


def test_an_unforeseen_error_is_one_line_that_names_its_kind(failing, capsys):
    assert failing(ZeroDivisionError("by zero")) == 1
    line = capsys.readouterr().err
    assert "unexpected ZeroDivisionError: by zero" in line
    assert line.count("\n") == 1


@pytest.mark.parametrize("flags", [["--debug", "plugins"], ["plugins", "--debug"]])
def test_debug_shows_where_an_error_comes_from(flags, failing, capsys):
    assert failing(CorruptFile("torn."), *flags) == 1
    captured = capsys.readouterr().err
    assert "Traceback" in captured
    assert captured.endswith("adapter-hub: error: torn.\n")


def test_an_interrupt_ends_with_130_and_no_words(failing, capsys):
    assert failing(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == ""


def test_output_that_the_terminal_cannot_encode_is_no_error():
    script = "import sys; from adapter_hub.commands.output import say; from adapter_hub import cli\n"
    script += "cli.plugins.list_plugins = lambda args: say('\\u2603') or 0\nsys.exit(cli.main(['plugins']))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, env={"PYTHONIOENCODING": "ascii"}, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"?\n", b"")


def test_a_reader_that_goes_away_is_no_error_message(tmp_path):
    code = "import sys; from adapter_hub.cli import main; sys.exit(main(['list', '--json']))"
    environment = {"ADAPTER_HUB_REGISTRY": str(tmp_path / "registry.sqlite3")}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait() == 141


@pytest.mark.parametrize(
    "argv",
    [
        ["list"],
        ["list", "--json"],
        ["show", "x"],
        ["remove", "x"],
        ["versions", "x"],
        ["alias", "x", "stable"],
        ["unalias", "x", "stable"],
        ["pin", "x"],
        ["unpin", "x"],
        ["--help"],
    ],
)
def test_the_registry_commands_load_no_torch(argv, tmp_path):
    script = (
        "import sys; from adapter_hub.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'numpy', 'gradio', 'huggingface_hub'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    environment = {"ADAPTER_HUB_REGISTRY": str(tmp_path / "registry.sqlite3")}
    done = subprocess.run(
        [sys.executable, "-c", script, *argv], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_real_process_says_one_line_and_ends_with_1(tmp_path):
    done = subprocess_run("show", "nobody", registry=tmp_path / "registry.sqlite3")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "adapter-hub: error: no adapter is registered as 'nobody'. Registered: none.\n"


def test_every_command_line_in_the_docs_is_understood():
    lines = [line[2:] for line in DOCS.read_text().splitlines() if line.startswith("$ ")]
    commands = [part.strip() for line in lines for part in line.split("|") if "adapter-hub " in part]
    assert len(commands) > 10
    for command in commands:
        words = shlex.split(command.partition("#")[0])
        build_parser().parse_args(words[words.index("adapter-hub") + 1 :])


def test_the_docs_name_every_command():
    text = DOCS.read_text()
    assert [command for command in COMMANDS if f"`{command}" not in text] == []
