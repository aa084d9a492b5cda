"""``plugins``: the table of who brought what."""


def test_the_table_names_plugin_distribution_and_what_it_brings(run):
    lines = run("plugins").out.splitlines()
    heads = ["PLUGIN", "DISTRIBUTION", "SOURCES", "FORMATS", "VARIANTS", "IMPORTERS", "MERGE METHODS", "EXPORTERS"]
    heads += ["SERVER ROUTES"]
    assert [head.strip() for head in lines[0].split("  ") if head] == heads
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:]}
    assert rows["local-folder"] == ["adapter-hub", "folder", *"------"]
    assert rows["peft-folder"] == ["adapter-hub", "-", "peft", *"-----"]
    assert rows["vllm-routes"] == ["adapter-hub", *"------", "vllm-routes"]


def test_json_has_lists(run):
    infos = {info["name"]: info for info in run("plugins", "--json").json()}
    assert infos["local-folder"] == {
        "name": "local-folder",
        "distribution": "adapter-hub",
        "sources": ["folder"],
        "formats": [],
        "variants": [],
        "importers": [],
        "merge_methods": [],
        "exporters": [],
        "server_routes": [],
    }
