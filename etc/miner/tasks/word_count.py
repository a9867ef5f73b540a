"""A sample task: jobs of the workload word_count. Copy it to a directory of runners.python.task_paths.

A task is a module with a function run(). Its arguments are the params of the job, its result has to
be JSON. It runs in the sandbox, in the job's work directory, with the job's files in input/.
"""

from collections import Counter
from pathlib import Path

import aitbc_task  # The node's own: it tells the node how far the work is.

MOST_WORDS = 1000


def run(top: int = 10, lower: bool = True) -> dict:
    """The words of all input files, and the most frequent of them."""
    files = sorted(path for path in Path("input").rglob("*") if path.is_file())
    words = Counter()
    for number, path in enumerate(files, start=1):
        text = path.read_text(encoding="utf-8", errors="replace")
        words.update((text.lower() if lower else text).split())
        aitbc_task.progress(100 * number // len(files))
    aitbc_task.metric("words", sum(words.values()))
    return {"words": sum(words.values()), "top": words.most_common(max(0, min(top, MOST_WORDS)))}
