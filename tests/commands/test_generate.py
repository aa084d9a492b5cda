"""``generate``: one answer streamed, or several from one batch."""

import io
import subprocess
import sys

import pytest

from adapter_hub import AdapterHub

from .conftest import BASE_FLAGS

PROMPT = "What is it?"
MESSAGES = [{"role": "user", "content": PROMPT}]
SHORT = ("--max-new-tokens", "12")


@pytest.fixture(scope="module")
def expected(base_folder, adapter, other_adapter):
    """Texts of the hub itself, by adapter, for the prompt as a chat message and as plain text."""
    with AdapterHub.from_pretrained(base_folder, quantization=None, dtype="float32", device="cpu") as hub:
        hub.register("one", adapter)
        hub.register("two", other_adapter)
        names = (None, "one", "two")
        chat = {name: hub.generate(MESSAGES, adapter=name, max_new_tokens=12).text for name in names}
        raw = {name: hub.generate(PROMPT, adapter=name, max_new_tokens=12).text for name in names}
    assert len({*chat.values(), *raw.values()}) == 6  # else the tests here could not tell one from another
    return chat, raw


def test_the_base_answers_a_chat_message(run, on_base, expected):
    ran = run("generate", PROMPT, *SHORT, *on_base)
    assert (ran.code, ran.out, ran.err) == (0, expected[0][None] + "\n", "")


@pytest.mark.usefixtures("two_added")
def test_an_adapter_answers(run, on_base, expected):
    assert run("generate", PROMPT, "--adapter", "one", *SHORT, *on_base).out == expected[0]["one"] + "\n"
    assert run("generate", PROMPT, "--adapter", "two", "--raw", *SHORT, *on_base).out == expected[1]["two"] + "\n"


def test_without_a_chat_template_the_prompt_is_plain_text(run, plain_base_folder, expected):
    ran = run("generate", PROMPT, *SHORT, "--base", plain_base_folder, *BASE_FLAGS)
    assert ran.out == expected[1][None] + "\n"


@pytest.mark.usefixtures("two_added")
def test_several_adapters_answer_side_by_side(run, on_base, expected):
    names = ("--adapter", "one", "--adapter", "base", "--adapter", "two")
    chat = expected[0]
    ran = run("generate", PROMPT, *names, *SHORT, *on_base)
    assert ran.out == f"[one]\n{chat['one']}\n\n[base]\n{chat[None]}\n\n[two]\n{chat['two']}\n"


@pytest.mark.usefixtures("two_added")
def test_json_is_one_completion_for_each_adapter(run, on_base, expected):
    names = ("--adapter", "one", "--adapter", "base")
    completions = run("generate", PROMPT, *names, "--json", *SHORT, *on_base).json()
    assert [c["adapter"] for c in completions] == ["one", None]
    assert [c["text"] for c in completions] == [expected[0]["one"], expected[0][None]]
    assert completions[0]["completion_tokens"] == 12
    assert completions[0]["finish_reason"] == "length"
    assert len(run("generate", PROMPT, "--json", *SHORT, *on_base).json()) == 1


def test_a_dash_reads_the_prompt_from_stdin(run, on_base, expected, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(PROMPT + "\n"))
    assert run("generate", "-", *SHORT, *on_base).out == expected[0][None] + "\n"


def test_sampling_flags_and_a_system_message_arrive(run, on_base, expected):
    stop = expected[0][None][5]
    cut = expected[0][None].split(stop)[0]
    assert run("generate", PROMPT, "--stop", stop, *SHORT, *on_base).out == cut + "\n"
    with_system = run("generate", PROMPT, "--system", "Be brief.", *SHORT, *on_base)
    assert with_system.code == 0
    assert with_system.out != expected[0][None] + "\n"


def test_a_system_message_without_a_template_is_refused(run, on_base, plain_base_folder):
    for flags in (("--raw", *on_base), ("--base", plain_base_folder, *BASE_FLAGS)):
        ran = run("generate", PROMPT, "--system", "Be brief.", *flags)
        assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
        assert "--system" in ran.err


@pytest.mark.parametrize(
    ("flags", "code"),
    [(("--adapter", "nobody"), 1), (("--max-new-tokens", "0"), 2), (("--temperature", "-1"), 2), (("--top-k", "3"), 2)],
)
def test_mistakes_show_before_the_base_is_loaded(run, monkeypatch, flags, code):
    monkeypatch.setattr("adapter_hub.hub.load_base", lambda *_, **__: pytest.fail("the base was loaded"))
    ran = run("generate", PROMPT, *flags)
    assert (ran.code, ran.out, ran.err.count("\n")) == (code, "", 1)


def test_a_prompt_that_is_too_long_is_one_line(run, on_base):
    ran = run("generate", "x" * 300, *SHORT, *on_base)
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert "256 positions" in ran.err


def test_a_real_process_writes_the_answer_and_nothing_else(on_base, expected):
    code = "import sys; from adapter_hub.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "generate", "-", *SHORT, *on_base],
        input=PROMPT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, expected[0][None] + "\n", "")
