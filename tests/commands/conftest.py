"""A base that loads in no time, adapters for it, and the command line in process."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from adapter_hub.cli import main

CHAT_TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: "
LAYERS, HIDDEN, RANK = 2, 64, 4
BASE_FLAGS = ("--quantization", "none", "--dtype", "float32", "--device", "cpu")


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


def save_base(folder: Path, chat_template: str | None) -> str:
    characters = ["</s>", "\n", *map(chr, range(32, 127))]
    tokenizer = Tokenizer(models.BPE({char: k for k, char in enumerate(characters)}, []))
    tokenizer.decoder = decoders.Fuse()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", chat_template=chat_template)
    wrapped.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(characters),
        hidden_size=HIDDEN,
        intermediate_size=96,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=0,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


def save_adapter(folder: Path, seed: int = 0, scale: float = 0.3, **config: object) -> str:
    """An adapter for the small base at q_proj and o_proj of both layers; ``scale=0`` makes one without effect."""
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(LAYERS):
        for module in ("q_proj", "o_proj"):
            path = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            tensors[f"{path}.lora_A.weight"] = torch.randn(RANK, HIDDEN, generator=generator)
            tensors[f"{path}.lora_B.weight"] = torch.randn(HIDDEN, RANK, generator=generator) * scale
    save_file(tensors, folder / "adapter_model.safetensors")
    written = {"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, **config}
    (folder / "adapter_config.json").write_text(json.dumps(written))
    return str(folder)


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_base(tmp_path_factory.mktemp("base"), CHAT_TEMPLATE)


@pytest.fixture(scope="session")
def plain_base_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same base without a chat template."""
    return save_base(tmp_path_factory.mktemp("plain"), None)


@pytest.fixture(scope="session")
def on_base(base_folder: str) -> Sequence[str]:
    """The flags that choose the small base."""
    return ("--base", base_folder, *BASE_FLAGS)


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_adapter(tmp_path_factory.mktemp("adapters") / "one", seed=1)


@pytest.fixture(scope="session")
def other_adapter(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_adapter(tmp_path_factory.mktemp("adapters") / "two", seed=2)


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The registry's file that every command of this test uses."""
    path = tmp_path / "registry.sqlite3"
    monkeypatch.setenv("ADAPTER_HUB_REGISTRY", str(path))
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run_command(*argv: str) -> Ran:
        try:
            code = main(argv)
        except SystemExit as ended:
            code = int(ended.code or 0)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run_command


@pytest.fixture
def two_added(run: Run, on_base: Sequence[str], adapter: str, other_adapter: str) -> None:
    """The registry holds the adapters ``one`` and ``two``."""
    assert run("add", "one", adapter, "--tag", "first", *on_base).code == 0
    assert run("add", "two", other_adapter, *on_base).code == 0
