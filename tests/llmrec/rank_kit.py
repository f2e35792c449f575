"""Two ranks for tests: this process and one other, in a group over gloo."""

import multiprocessing
import traceback

import torch
from torch import distributed

from bench.execution.grouping import enter_group, gather_group


def on_two_ranks(task, *given):
    """What ``task(*given)`` returns on each of two ranks, each with one thread."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    other = context.Process(target=_second, args=(theirs, task, given))
    other.start()
    theirs.close()
    try:
        gather_group(2, "cpu", ours.send)
        return [_one_thread(task, given), ours.recv()]
    finally:
        distributed.destroy_process_group()
        other.kill()
        other.join()


def on_one(task, *given):
    """The same with one process."""
    return _one_thread(task, given)


def _one_thread(task, given):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return task(*given)
    finally:
        torch.set_num_threads(before)


def _second(channel, task, given):
    enter_group(channel.recv(), 1, 2, "cpu")
    try:
        channel.send(_one_thread(task, given))
    except BaseException:
        traceback.print_exc()
        raise
    channel.recv()  # sent values live in this process until they are read
