"""Calls a task module of the node's owner for one job; runs inside the sandbox.

    driver.py probe ROOT...        which modules below the roots define run(), and what Python this is
    driver.py run MODULE ROOT...   MODULE.run(**params), its result as JSON on standard output
    driver.py torch_bench          the matrix product of the workload torch_bench, with torch

The job's facts are in JOB_FILE. Everything that a module prints goes to standard error: standard
output is the result and nothing else. How a run failed is said on the last line of standard error,
behind MARK, and by the exit code REPORTED.
"""

import ast
import importlib
import importlib.util
import inspect
import json
import os
import sys
import time
import traceback
import types

JOB_FILE = "/job.json"
MARK = "aitbc-run: "
REPORTED = 126
LONGEST_MESSAGE = 500


class Failed(Exception):
    """A run that is over, and the failure code that it has."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def facts():
    with open(JOB_FILE, encoding="utf-8") as file:
        return json.load(file)


def alone():
    """Takes standard output away from everybody else; returns it."""
    result = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return result


def offer_words():
    """The module aitbc_task, by which a task can speak to the node: lines on standard error."""
    words = types.ModuleType("aitbc_task", "What a task can tell the node while it runs.")

    def progress(pct):
        """How much of the work is done, in per cent."""
        print(f"progress: {int(pct)}%", file=sys.stderr, flush=True)

    def metric(name, value):
        """A number that goes into the job's metrics."""
        print(f"metric: {name}={value}", file=sys.stderr, flush=True)

    words.progress, words.metric = progress, metric
    sys.modules["aitbc_task"] = words


def below(file, roots):
    return file is not None and any(
        os.path.abspath(file).startswith(os.path.join(root, "")) for root in roots
    )


def summary(error):
    """What a traceback says at its end, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def imported(name, roots):
    try:
        module = importlib.import_module(name)
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        raise Failed("E_UNSUPPORTED", f"the task {name} cannot be imported: {summary(error)}")
    if not below(getattr(module, "__file__", None), roots):
        raise Failed("E_DENY", f"the module {name} is not one of this node's tasks")
    if not callable(getattr(module, "run", None)):
        raise Failed("E_UNSUPPORTED", f"the task {name} has no run()")
    return module


def call(run, params):
    try:
        inspect.signature(run).bind(**params)
    except TypeError as error:
        raise Failed("E_INPUT", f"params do not fit run(): {error}")
    except ValueError:
        pass  # Some functions that are not written in Python have no signature.
    try:
        return run(**params)
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        raise Failed("E_EXIT", summary(error))


def run(name, roots):
    result = alone()
    offer_words()
    # Last, so that no task takes the place of a module of Python's own.
    sys.path.extend(roots)
    value = call(imported(name, roots).run, facts()["params"])
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        result.write(text + "\n")
    except (TypeError, ValueError, RecursionError) as error:
        raise Failed("E_OUTPUT", f"the result of run() is no JSON: {error}")
    result.close()


def runnable(name, roots):
    """Why a module is no task; None where it is one. It is read, not run."""
    try:
        spec = importlib.util.find_spec(name)
        if spec is None or not below(spec.origin, roots):
            return "a module of Python's own has the same name"
        with open(spec.origin, encoding="utf-8") as file:
            names = list(top_level(ast.parse(file.read())))
    except (Exception, RecursionError) as error:
        return summary(error)
    return None if "run" in names else "it defines no run()"


def top_level(tree):
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def probe(roots):
    sys.path.extend(roots)
    names = facts()["params"]["modules"]
    json.dump(
        {
            "prefix": sys.prefix,
            "version": ".".join(map(str, sys.version_info[:3])),
            "torch": importlib.util.find_spec("torch") is not None,
            "modules": {name: runnable(name, roots) for name in names},
        },
        sys.stdout,
    )


def torch_bench():
    result = alone()
    job = facts()
    try:
        import torch
    except ImportError as error:
        raise Failed("E_UNSUPPORTED", f"torch cannot be imported: {error}")
    cuda = torch.cuda.is_available()
    if os.environ.get("CUDA_VISIBLE_DEVICES") and not cuda:
        raise Failed("E_NOGPU", "the job has a GPU, but torch does not reach it")
    torch.set_num_threads(max(1, int(job["threads"])))

    def asked(name, most):
        value = job["params"].get(name)
        return min(max(value, 1), most) if type(value) is int else most

    size, rounds = asked("size", 1024), asked("rounds", 100)
    device = torch.device("cuda" if cuda else "cpu")
    matrix = torch.rand(size, size, device=device)
    torch.mm(matrix, matrix)  # The first one also loads the library.
    wait = torch.cuda.synchronize if cuda else lambda: None
    wait()
    started = time.monotonic()
    told = 0
    for done in range(1, rounds + 1):
        torch.mm(matrix, matrix)
        if done * 10 // rounds > told:
            told = done * 10 // rounds
            print(f"progress: {told * 10}%", file=sys.stderr, flush=True)
    wait()
    seconds = time.monotonic() - started
    where = f"cuda ({torch.cuda.get_device_name(0)})" if cuda else "cpu"
    result.write(f"throughput_ops={rounds}, seconds={seconds:.4f}\n")
    result.write(f"engine=torch {torch.__version__}, device={where}, dtype=f32, size={size}\n")
    result.close()


def main(arguments):
    try:
        if arguments[0] == "probe":
            probe(arguments[1:])
        elif arguments[0] == "run":
            run(arguments[1], arguments[2:])
        else:
            torch_bench()
        return 0
    except Failed as error:
        code, message = error.code, str(error)
    except MemoryError:
        code, message = "E_OOM", "Python ran out of memory"
    report = json.dumps({"code": code, "message": message[:LONGEST_MESSAGE]})
    print(f"\n{MARK}{report}", file=sys.stderr, flush=True)
    return REPORTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
