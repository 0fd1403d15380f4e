"""A process of its own for what may crash or never end."""

import faulthandler
import multiprocessing
import signal
import threading
import warnings
from typing import Any

from ai3 import _core
from ai3.validation.trial import Outcome, Trial, attempt

DOES_NOT_END = "does not end"


class Worker:
    """Runs trials of one algorithm in a process that is forked from this one, so that it has every
    algorithm that was added here, and forked anew where one ends it.

    Its thread is not the one that forked: threads that OpenMP has for that one are gone after a
    fork, and a new thread gets its own.
    """

    def __init__(self, algorithm: str, tolerance: float | None, limit: float) -> None:
        if "fork" not in multiprocessing.get_all_start_methods():
            raise RuntimeError(
                "trials run in a process that is forked, which this system cannot do; "
                "ai3.check(..., isolated=False) does one in this process"
            )
        self._algorithm = algorithm
        self._tolerance = tolerance
        self._limit = limit
        self._process: Any = None
        self._pipe: Any = None
        self.deaths = 0

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def threads_of(self, threads: int) -> int:
        """How many threads share a loop there."""
        answer = self._ask(threads)
        return answer if isinstance(answer, int) else 0

    def attempt(self, trial: Trial) -> Outcome:
        answer = self._ask(trial)
        assert isinstance(answer, Outcome)
        return answer

    def _ask(self, what: Trial | int) -> Outcome | int:
        if self._process is None:
            self._start()
        try:
            self._pipe.send(what)
            if not self._pipe.poll(self._limit):
                self.deaths += 1
                self._end()
                why = f"it was not done after {self._limit:g} s"
                return Outcome("wrong", why, DOES_NOT_END)
            answer: Outcome | int | Exception = self._pipe.recv()
        except (EOFError, OSError):
            self.deaths += 1
            self._process.join()
            code = self._process.exitcode
            self._end()
            if code >= 0:
                return Outcome("wrong", f"it ended the process, status {code}", "ends the process")
            return Outcome("wrong", signal.Signals(-code).name, "crashes")
        if isinstance(answer, Exception):
            # Of what is tried with, not of what is tried.
            raise answer
        return answer

    def _start(self) -> None:
        forking = multiprocessing.get_context("fork")
        self._pipe, other = forking.Pipe()
        arguments = (other, self._pipe, self._algorithm, self._tolerance)
        self._process = forking.Process(target=_serve, args=arguments, daemon=True)
        with warnings.catch_warnings():
            # That this process has threads is what the new thread there is for.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process.start()
        other.close()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None


def _serve(pipe: Any, parents: Any, algorithm: str, tolerance: float | None) -> None:
    parents.close()
    faulthandler.disable()
    # The one who is waited for is told.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _leave_no_core()

    def serve() -> None:
        while True:
            try:
                what = pipe.recv()
            except EOFError:
                return
            answer: Any
            try:
                is_count = isinstance(what, int)
                answer = _core.threads_of(what) if is_count else attempt(what, algorithm, tolerance)
            except Exception as error:
                answer = error
            pipe.send(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()


def _leave_no_core() -> None:
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
