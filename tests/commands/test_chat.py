"""``chat``: the loop, its commands, and what an interrupt leaves standing."""

import io
import re
from collections.abc import Iterator

import pytest

from adapter_hub.commands.chat import Conversation
from adapter_hub.errors import RequestError

SHORT = ("--max-new-tokens", "8")


class FakeHub:
    """Answers ``echo N`` with the number of messages; stops at a word as the keyboard would."""

    active_adapter: str | None = None

    def __init__(self) -> None:
        self.seen: list[list[dict[str, str]]] = []
        self.closed = 0

    def set_adapter(self, name: str | None) -> None:
        self.active_adapter = name

    def stream(self, messages: list[dict[str, str]], **_: object) -> Iterator[str]:
        self.seen.append([dict(message) for message in messages])
        try:
            if messages[-1]["content"] == "too long":
                raise RequestError("too long.")
            if messages[-1]["content"] == "stop at once":
                raise KeyboardInterrupt
            yield "echo "
            if messages[-1]["content"] == "stop":
                raise KeyboardInterrupt
            yield str(len(messages))
        finally:
            self.closed += 1


def talk(monkeypatch, hub, *lines, interactive=True, system=None):
    """Type the lines; an exception among them is raised by ``input``."""
    left = iter([*lines, EOFError()])

    def read(_: str) -> str:
        line = next(left)
        if isinstance(line, BaseException):
            raise line
        return line

    monkeypatch.setattr("builtins.input", read)
    conversation = Conversation(hub, system, {}, interactive=interactive)
    conversation.run()
    return conversation


def roles(messages):
    return [message["role"] for message in messages]


def test_a_conversation_goes_on_and_new_forgets_it(monkeypatch, capsys):
    hub = FakeHub()
    talk(monkeypatch, hub, "a", "b", "/new", "c", system="Be brief.")
    assert [roles(seen) for seen in hub.seen] == [
        ["system", "user"],
        ["system", "user", "assistant", "user"],
        ["system", "user"],
    ]
    assert hub.seen[1][2]["content"] == "echo 2"
    assert capsys.readouterr().out == "echo 2\necho 4\necho 2\n"


def test_an_interrupt_ends_the_answer_and_keeps_what_was_said(monkeypatch, capsys):
    hub = FakeHub()
    conversation = talk(monkeypatch, hub, "stop", "go on")
    assert hub.seen[1][1] == {"role": "assistant", "content": "echo "}
    assert roles(conversation.messages) == ["user", "assistant"] * 2
    assert hub.closed == 2
    assert "stopped" in capsys.readouterr().err


def test_a_turn_that_said_nothing_is_forgotten(monkeypatch, capsys):
    hub = FakeHub()
    conversation = talk(monkeypatch, hub, "stop at once", "too long", "hello")
    assert [message["content"] for message in conversation.messages] == ["hello", "echo 1"]
    assert "error: too long." in capsys.readouterr().err


def test_an_interrupt_at_the_prompt_does_not_end_the_program(monkeypatch):
    hub = FakeHub()
    talk(monkeypatch, hub, KeyboardInterrupt(), "hello")
    assert len(hub.seen) == 1


def test_a_script_ends_with_its_first_error_or_interrupt(monkeypatch):
    with pytest.raises(RequestError):
        talk(monkeypatch, FakeHub(), "too long", "hello", interactive=False)
    with pytest.raises(KeyboardInterrupt):
        talk(monkeypatch, FakeHub(), "stop", "hello", interactive=False)


def test_quit_help_and_unknown_commands(monkeypatch, capsys):
    hub = FakeHub()
    talk(monkeypatch, hub, "", "/help", "/sing", "/adapter", "/quit", "never said")
    assert hub.seen == []
    captured = capsys.readouterr()
    assert captured.out == ""
    for word in ("/adapters", "no such command", "base answers"):
        assert word in captured.err


@pytest.mark.usefixtures("two_added")
def test_a_piped_conversation_switches_adapters_and_keeps_its_messages(run, on_base, monkeypatch):
    lines = "Hello\n/adapter one\nHello\n/adapter base\n/adapter one\n/adapters\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    ran = run("chat", *SHORT, *on_base)
    assert ran.code == 0
    loaded, to_base, back, *listing = ran.err.splitlines()
    assert re.fullmatch(r"one answers now \(loaded and switched in [\d.]+ (µs|ms|s)\)", loaded)
    assert re.fullmatch(r"base answers now \(switched in [\d.]+ (µs|ms|s)\)", to_base)
    assert re.fullmatch(r"one answers now \(switched in [\d.]+ (µs|ms|s)\)", back)
    assert [line.split() for line in listing] == [
        ["NAME", "VARIANT", "RESIDENT"],
        ["base", "-", "yes"],
        ["*", "one", "lora", "yes"],
        ["two", "lora", "no"],
    ]

    monkeypatch.setattr("sys.stdin", io.StringIO("Hello\n"))
    alone = run("chat", "--adapter", "one", *SHORT, *on_base)
    base = run("generate", "Hello", *SHORT, *on_base)
    first, second = ran.out.splitlines()
    assert first == base.out.rstrip("\n")
    assert second != alone.out.rstrip("\n")  # the same words and adapter, but later in a conversation


def test_an_unknown_adapter_in_a_script_is_an_error(run, on_base, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("/adapter nobody\nHello\n"))
    ran = run("chat", *SHORT, *on_base)
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert run("chat", "--adapter", "nobody").code == 1
