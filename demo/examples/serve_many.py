"""Serve many: requests for eleven adapters and the base in one running batch, each with its own.

python -m demo.examples.serve_many
"""

import sys
import time

from adapter_hub import AdapterHub
from demo.catalog import DEMO_ADAPTERS
from demo.tasks import get_task
from demo.train.card import Card

say = sys.stdout.write

with AdapterHub.from_pretrained() as hub:
    # Registered: proven against the base and recorded. None of them is on the device yet.
    folders = sorted(path for path in DEMO_ADAPTERS.iterdir() if path.is_dir())
    for folder in folders:
        hub.register(folder.name, folder)

    # Two unseen examples of every task, and one question to the bare base. `submit` queues and goes on.
    running = []
    for folder in folders:
        task = get_task(Card.read(folder).task)
        for example in task.examples("held_out", 2, seed=7):
            chat = [{"role": "user", "content": example.prompt}]
            generation = hub.submit(chat, adapter=folder.name, max_new_tokens=task.max_new_tokens)
            running.append((task, example, generation))
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    bare = hub.submit(chat, adapter=None, max_new_tokens=12)

    # They run together: rows of twelve kinds in one forward. Each is answered as if it were alone.
    started, right = time.perf_counter(), 0
    for task, example, generation in running:
        done = generation.result()
        right += task.score(example.answer, done.text)
        say(f"{done.adapter:>10}  {done.text.strip()[:90]}\n")
    say(f"{'base':>10}  {bare.result().text.strip()}\n")
    say(f"{right} of {len(running)} right in {time.perf_counter() - started:.1f} s\n")

    device = next(tier for tier in hub.memory().tiers if tier.name == "device")
    say(f"{device.entries} adapters take {device.used / 1e6:.0f} MB beside the base\n")
