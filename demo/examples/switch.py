"""Switch interactively: one conversation, another adapter for each answer, and what a switch costs.

python -m demo.examples.switch
"""

import sys
import time

from adapter_hub import AdapterHub
from demo.catalog import DEMO_ADAPTERS

say = sys.stdout.write
ASK = "Write one SQL query.\nTable: employees(id, name, salary, city)\nQuestion: How many employees live in Rome?"
THEN = "Write the date in this text in ISO format.\n\nThe lease ends on the 3rd of May 2027."

with AdapterHub.from_pretrained() as hub:
    hub.register("sql", DEMO_ADAPTERS / "sql")
    hub.register("dates", DEMO_ADAPTERS / "dates")

    # A request names its adapter. Nothing is switched for anybody else.
    chat = [{"role": "user", "content": ASK}]
    say("sql> ")
    said = ""
    for piece in hub.stream(chat, adapter="sql", max_new_tokens=48):
        said += piece
        say(piece)
    chat += [{"role": "assistant", "content": said}, {"role": "user", "content": THEN}]
    say(f"\ndates> {hub.generate(chat, adapter='dates', max_new_tokens=16).text}\n")

    # For direct calls there is a default, as PEFT's users know it. It is a pointer, and the base is never written.
    for name in ("sql", "dates", "sql", None):
        started = time.perf_counter()
        hub.set_adapter(name)
        say(f"set_adapter({name!r}): {(time.perf_counter() - started) * 1e6:.0f} µs\n")

    # Between two adapters lie their sums, each of them one more thing to ask.
    for blend in ("sql", "sql*0.5+dates*0.5", "dates"):
        answer = hub.generate([{"role": "user", "content": ASK}], adapter=blend, max_new_tokens=32)
        say(f"{blend}> {answer.text.strip()}\n")

    hub.unload()  # the bare base again, bit for bit
