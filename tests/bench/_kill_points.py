"""Named points in runner and store at which a process is killed, once, by SIGKILL."""

import importlib
import os
import signal

# by name, what is about to be called there
POINTS = {
    "a cell is chosen": "bench.execution.schedule:Schedule._start",
    "a cell is claimed": "bench.execution.claimed:run_cell",
    "its data is read": "bench.execution.work:_seed_everything",
    "its fit begins": "bench.execution.fitting:Fitting.run",
    "an epoch ends": "bench.execution.runner:Attempt.progress",
    "it is fitted": "bench.execution.fitting:keep",
    "its method is written": "bench.execution.fitting:Fitting._made",
    "its bill is written": "bench.execution.runner:_examine",
    "it has recommended": "bench.results.store:Store.write_lists",
    "its lists are written": "bench.execution.runner:proven",
    "its row is to be written": "bench.results.store:Store.write",
    "its positions are written": "bench.results.store:seal_beside",
    "its row is written": "bench.results.store:write_json",
    "it is answered": "bench.results.store:Store.forget_scratch",
    "its end is seen": "bench.execution.schedule:Schedule._settle",
}


def kill_at(name, after=0):
    """From now on, this process kills itself when it is about to do something named.

    Args:
        name: from ``POINTS``.
        after: how often it may do it first.
    """
    module, _, path = POINTS[name].partition(":")
    home = importlib.import_module(module)
    *owners, last = path.split(".")
    for owner in owners:
        home = getattr(home, owner)
    do, left = getattr(home, last), iter(range(after))

    def step(*words, **more):
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return do(*words, **more)

    setattr(home, last, step)


def in_a_fork(work):
    """Do something in a forked process; returns the signal that ended it, 0 for none."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
