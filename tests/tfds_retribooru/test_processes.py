"""Jobs done by processes: order, and what happens when one of them is killed."""

import os
import pathlib
import signal
import subprocess
import sys
from multiprocessing import connection

import pytest

from tfds_retribooru import processes

ROOT = pathlib.Path(__file__).parents[2]
HEADER = 12  # bytes before a long message, at most
PIPE_BUF = 4096  # bytes that a pipe takes at once
LONG = 1 << 20


def square(number):
    return number**2


@pytest.mark.parametrize("workers, batch", [(1, 1), (2, 1), (2, 7)])
def test_results_come_in_order(workers, batch):
    jobs = ((number,) for number in range(50))
    found = processes.map_in_order(square, jobs, workers=workers, batch=batch)
    assert list(found) == [number**2 for number in range(50)]


def test_jobs_are_read_as_they_are_needed():
    read = []
    jobs = ((number,) for number in range(1000) if read.append(number) is None)
    found = processes.map_in_order(square, jobs, workers=2)
    assert next(found) == 0 and len(read) < 20
    found.close()


def test_an_error_of_a_job_is_raised():
    with pytest.raises(TypeError, match="unsupported operand"):
        list(processes.map_in_order(square, [(1,), ("a",)], workers=2))


def die(moment, content):
    """Ends this process: as it works, or as a long answer is half in the pipe."""
    if moment == "work":
        os.kill(os.getpid(), signal.SIGKILL)

    def send(self, data, *_):
        if len(data) <= HEADER or len(data) > PIPE_BUF:
            os.write(self.fileno(), data[:PIPE_BUF])
        if len(data) > HEADER:
            os.kill(os.getpid(), signal.SIGKILL)

    connection.Connection._send = send
    return content


@pytest.mark.parametrize("moment", ["work", "answer"])
@pytest.mark.parametrize("size", [1, LONG])
def test_a_killed_process_is_an_error_and_no_hang(moment, size):
    program = f"""
from tests.tfds_retribooru import test_processes
from tfds_retribooru import processes
jobs = [("{moment}", b"x" * {size})] * 100
try:
    list(processes.map_in_order(test_processes.die, jobs, workers=2))
except ChildProcessError as error:
    print(error)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert "a process ended early ({SIGKILL(-9)" in done.stdout and not done.returncode, done.stderr
