"""The demo's tasks: each module of this package with a ``TASK`` is one; adding it needs no other change."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from .task import Example, Split, Task

__all__ = ["Example", "Split", "Task", "all_tasks", "get_task"]


def all_tasks() -> dict[str, Task]:
    """Every task by its name.

    Raises:
        ValueError: two modules give their task the same name.
    """
    tasks: dict[str, Task] = {}
    for module in pkgutil.iter_modules(__path__):
        task = getattr(import_module(f"{__name__}.{module.name}"), "TASK", None)
        if task is None:
            continue
        if task.name in tasks:
            raise ValueError(f"two tasks are named {task.name!r}, one of them in {module.name}.py")
        tasks[task.name] = task
    return tasks


def get_task(name: str) -> Task:
    """The task of that name.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    tasks = all_tasks()
    if name not in tasks:
        raise ValueError(f"no task is named {name!r}; there are {', '.join(sorted(tasks))}")
    return tasks[name]
