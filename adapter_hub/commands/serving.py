"""``serve``: the HTTP server over one base and its adapters."""

from __future__ import annotations

import argparse
import importlib
import logging
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

from ..config import ServerSettings, Settings
from ..errors import AdapterHubError, SettingError
from .flags import add_base, add_command, add_device, add_settings, table_from
from .opening import hush_loading, open_registry
from .settings_file import OF_THE_BASE, SettingsFile

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ..hub import AdapterHub
    from .flags import Commands

_log = logging.getLogger(__name__)
DEMO = "adapter_hub_demo.app"


def add_commands(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "serve", serve, "answer over HTTP as OpenAI's API does, adapters being models")
    parser.add_argument("--config", metavar="FILE", help="TOML file with settings and adapters; flags win over it")
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="NAME=REF",
        help="adapter to register under this name, a folder, a file or a Hub repo; repeatable",
    )
    parser.add_argument("--ui", action="store_true", help="show the demo's page at /ui too; needs gradio")
    add_base(parser)
    add_device(parser)
    # Whether they were given decides if the file's count.
    parser.set_defaults(**dict.fromkeys(OF_THE_BASE))
    add_settings(parser, table=ServerSettings, title="server")
    add_settings(parser)


def serve(args: argparse.Namespace) -> int:
    """Open the hub, register what is named, and answer until a signal ends it."""
    said = SettingsFile() if args.config is None else SettingsFile.read(args.config)
    server = table_from(args, ServerSettings, said.server)
    hub_settings = table_from(args, Settings, said.hub)
    adapters = {**said.adapters, **_adapters_from(args)}
    _hold_packages()
    from ..server import process
    from ..server.app import create_app
    from ..server.folders import Folders
    from ..server.logs import open_log
    from ..server.rights import Rights

    # All that can be wrong is looked at before the base is loaded: that takes long, and would be for nothing.
    with open_registry(hub_settings) as registry:
        Rights(registry, server).hold_listenable(server.host)
    Folders(server)
    with closing(process.open_socket(server.host, server.port)) as at:
        open_log(server, debug=args.debug)
        if not args.debug:
            hush_loading()
        base = {name: getattr(args, name) or said.base.get(name) for name in OF_THE_BASE}
        with _open_hub(base, hub_settings) as hub:
            hub.start()
            _bring(hub, adapters)
            app = create_app(hub, server)
            if args.ui:
                _mount_demo(app, hub)
            host, port = at.getsockname()[:2]
            url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            _log.info("serving %s with %d adapters at %s/v1", hub.base.name, hub.memory().tiers[0].entries, url)
            process.serve(app, server, at)
    return 0


def _adapters_from(args: argparse.Namespace) -> dict[str, str]:
    named = {}
    for text in args.adapter:
        name, equals, ref = text.partition("=")
        if not (name and equals and ref):
            raise SettingError(f"--adapter {text!r} is not NAME=REF.", hint="Write --adapter sql=./my-adapter.")
        if name in named:
            raise SettingError(f"--adapter names {name!r} twice.", hint="Give each adapter a name of its own.")
        named[name] = ref
    return named


def _hold_packages() -> None:
    for package in ("fastapi", "uvicorn", "prometheus_client"):
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            raise AdapterHubError(
                f"the server needs {error.name}, which is not installed.",
                hint="Install it: pip install 'adapter-hub[serve]'.",
            ) from error


def _open_hub(base: dict[str, Any], settings: Settings) -> AdapterHub:
    from ..hub import AdapterHub

    quantization = base["quantization"] or "nf4"
    return AdapterHub.from_pretrained(
        base["base"],
        quantization=None if quantization == "none" else quantization,
        dtype=base["dtype"] or "auto",
        device=base["device"] or "auto",
        registry=settings.registry,
        settings=settings,
    )


def _bring(hub: AdapterHub, adapters: dict[str, str]) -> None:
    """Register what was named, and make resident what is pinned.

    Raises:
        AdapterHubError: one of those named cannot be served. A pinned one of before that cannot is a warning: the
            others should not be down for it.
    """
    for name, ref in adapters.items():
        try:
            info = hub.register(name, ref)
        except AdapterHubError as error:
            raise AdapterHubError(f"adapter {name!r} ({ref}): {error.message}", hint=error.hint) from error
        for warning in info.warnings:
            _log.warning("%s: %s", info.key, warning)
    for info in hub.adapters():
        if info.pinned:
            try:
                hub.load_adapter(info.key)
            except AdapterHubError as error:
                _log.warning("%s is pinned and could not be loaded: %s", info.key, error)


def _mount_demo(app: FastAPI, hub: AdapterHub) -> None:
    from ..server.drain import UI_PATH
    from ..server.rights import user_of_page

    rights = app.state.service.rights
    try:
        importlib.import_module(DEMO).mount(app, hub, path=UI_PATH, auth_dependency=partial(user_of_page, rights))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "gradio":
            raise
        raise AdapterHubError(
            "--ui needs gradio, which is not installed.", hint="Install it: pip install 'adapter-hub[demo]'."
        ) from error
