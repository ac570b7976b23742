"""The search: Optuna proposes and keeps the trials, an executor runs them, and none is lost."""

from __future__ import annotations

import concurrent.futures as futures
import contextlib
import math
import multiprocessing
import os
import pickle
import signal
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np

from fastnn.arguments import checked_word
from fastnn.optional import need
from fastnn.train.search import spaces, storage, trial
from fastnn.train.search.study import Record, Study

STRATEGIES = ("random", "grid", "tpe")
CRASHES = 3  # so often a trial is run again after its worker died
_META = "fastnn"  # the attribute of Optuna's study that says what was searched
STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}

Watch = Callable[[Record, int, int], None]  # a finished trial, how many are finished, of how many


@dataclass(slots=True)
class Task:
    """A trial that is to run, and how often its worker has died."""

    trial: trial.Trial
    crashes: int = 0


def run(
    objective: trial.Objective,
    space: Mapping[str, Any],
    *,
    strategy: str,
    trials: int,
    processes: int | None,
    executor: Any,
    path: str | os.PathLike[str] | None,
    pruning: bool,
    seed: SupportsIndex,
    minimize: bool,
    watch: Watch,
) -> Study:
    """See `fastnn.train.search`; all arguments but `objective` are checked here."""
    ranges = spaces.checked_space(space)
    if strategy not in STRATEGIES:
        raise ValueError(f"search: strategy is {strategy!r}; expected one of {', '.join(STRATEGIES)}")
    for name, value in (("trials", trials), ("processes", 1 if processes is None else processes)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"search: {name} is {value!r}; expected an integer, at least 1")
    root = checked_word("search", "seed", seed)
    runner = _runner(objective, executor, processes, trials)
    optuna = need("optuna", "fastnn.train.search", "search")
    with _quiet(optuna), storage.opened(path) as kept, runner:
        meta = {"space": spaces.described(ranges), "minimize": minimize, "strategy": strategy, "seed": root}
        book = _Book(optuna, kept, meta, ranges, strategy, trials, root)
        _work(book, runner, pruning, minimize, watch)
        return Study(ranges, minimize, strategy, book.records(), book.study)


class _Book:
    """Optuna's study: where trials come from and are written to."""

    def __init__(
        self,
        optuna: Any,
        kept: Any,
        meta: dict[str, Any],
        ranges: dict[str, Any],
        strategy: str,
        trials: int,
        root: int,
    ) -> None:
        self.optuna, self.ranges, self.strategy, self.root = optuna, ranges, strategy, root
        direction = "minimize" if meta["minimize"] else "maximize"
        there = [one.study_name for one in optuna.get_all_study_summaries(kept)]
        self.study = (
            optuna.load_study(study_name=there[0], storage=kept)
            if there
            else optuna.create_study(storage=kept, study_name="fastnn", direction=direction)
        )
        found = self.study.user_attrs.get(_META)
        if found is None:
            self.study.set_user_attr(_META, meta)
        elif found != meta:
            differs = [name for name in meta if found.get(name) != meta[name]]
            raise ValueError(
                f"search: the storage holds a search with another {' and '.join(differs)}; use another file, "
                "or the arguments of that search"
            )
        self.grid = spaces.grid(ranges, trials) if strategy == "grid" else []
        self.wanted = len(self.grid) or trials
        self.distributions = {name: each.distribution() for name, each in ranges.items()}

    def all(self, *states: str) -> list[Any]:
        return [one for one in self.study.get_trials(deepcopy=False) if not states or one.state.name in states]

    def interrupted(self) -> list[Any]:
        """Trials that a search before this one left unfinished; those it had not even drawn are given up."""
        found = []
        for one in self.all("RUNNING", "WAITING"):
            if one.params.keys() == self.ranges.keys():
                found.append(one)
            elif one.state.name == "RUNNING":
                self.study.tell(one.number, state=self.optuna.trial.TrialState.FAIL)
        return found

    def drawn(self) -> int:
        """How many trials there are, finished or not."""
        return sum(one.params.keys() == self.ranges.keys() for one in self.all())

    def ask(self) -> Any:
        """A new trial. Its draw depends on the seed and its number alone: a resumed search draws as an unbroken one."""
        number = len(self.all())
        if self.grid:
            taken = [one.params for one in self.all()]
            point = next(point for point in self.grid if point not in taken)
            self.study.enqueue_trial(point)
        samplers = self.optuna.samplers
        seed = int(np.random.SeedSequence((self.root, number)).generate_state(1)[0])
        if self.strategy == "tpe":
            self.study.sampler = samplers.TPESampler(seed=seed, constant_liar=True)
        else:
            self.study.sampler = samplers.RandomSampler(seed=seed)
        return self.study.ask(self.distributions)

    def task(self, one: Any, minimize: bool) -> Task:
        seed = int(np.random.SeedSequence((self.root, one.number, 1)).generate_state(1, np.uint64)[0])
        return Task(trial.Trial(one.number, dict(one.params), seed, minimize))

    def tell(self, number: int, outcome: trial.Outcome) -> Record:
        one = self.optuna.trial.Trial(self.study, self._id(number))
        for step, value in outcome.reports.items():
            if math.isfinite(value):
                one.report(value, step)
        one.set_user_attr("seconds", outcome.seconds)
        one.set_user_attr("reason", outcome.reason)
        state = self.optuna.trial.TrialState
        if outcome.value is not None:
            told = self.study.tell(number, outcome.value)
        else:
            told = self.study.tell(number, state=state.PRUNED)
        return _record(told)

    def fail(self, number: int, reason: str) -> Record:
        self.optuna.trial.Trial(self.study, self._id(number)).set_user_attr("reason", reason)
        return _record(self.study.tell(number, state=self.optuna.trial.TrialState.FAIL))

    def _id(self, number: int) -> int:
        return int(next(one._trial_id for one in self.all() if one.number == number))

    def records(self) -> list[Record]:
        whole = [one for one in self.all("COMPLETE", "PRUNED", "FAIL") if one.params.keys() == self.ranges.keys()]
        return [_record(one) for one in whole]

    def medians(self) -> dict[int, float]:
        return trial.medians(one.intermediate_values for one in self.all("COMPLETE"))


def _record(one: Any) -> Record:
    state = STATES[one.state.name]
    attributes = one.user_attrs
    value = one.value if state == "complete" else None
    seconds = float(attributes.get("seconds", 0.0))
    reason = str(attributes.get("reason", ""))
    return Record(one.number, dict(one.params), value, state, reason, seconds, dict(one.intermediate_values))


def _work(book: _Book, runner: _Runner, pruning: bool, minimize: bool, watch: Watch) -> None:
    """Keep the executor busy until all trials are finished.

    Medians travel with a trial when it starts, and its reports come back when it ends: pruning then needs no line
    between workers, and works on any executor; trials that end meanwhile are not among the medians.
    """
    again = deque(book.task(one, minimize) for one in book.interrupted())
    flying: dict[futures.Future[trial.Outcome], Task] = {}

    def next_task() -> Task | None:
        if again:
            return again.popleft()
        return book.task(book.ask(), minimize) if book.drawn() < book.wanted else None

    while True:
        # what ran when a worker died runs again alone, so that the next death has one cause only
        suspect = any(task.crashes for task in (*again, *flying.values()))
        while len(flying) < (1 if suspect else runner.width) and (task := next_task()) is not None:
            task.trial.medians = book.medians() if pruning else {}
            task.trial.reports.clear()
            flying[runner.submit(task.trial)] = task
        if not flying:
            return
        done, _ = futures.wait(flying, return_when=futures.FIRST_COMPLETED)
        for future in sorted(done, key=lambda one: flying[one].trial.number):
            task = flying.pop(future)
            number = task.trial.number
            try:
                record = book.tell(number, future.result())
            except Exception as error:
                if not runner.died(error):
                    book.fail(number, f"{type(error).__name__}: {error}")
                    raise
                task.crashes += 1
                if task.crashes < CRASHES:
                    again.append(task)
                    continue
                record = book.fail(number, f"its worker died {CRASHES} times; can a new process import the objective?")
            watch(record, book.drawn() - len(flying) - len(again), book.wanted)


class _Runner:
    """Where trials run: a pool of processes of our own, somebody's executor, or this process."""

    def __init__(self, objective: trial.Objective, executor: Any, width: int, own: bool) -> None:
        self.objective, self.executor, self.width, self.own = objective, executor, width, own

    def __enter__(self) -> _Runner:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if self.own and self.executor is not None:
            if kind is not None:  # what still runs is in the storage as interrupted
                for process in dict(self.executor._processes or {}).values():
                    process.terminate()
            self.executor.shutdown(cancel_futures=True)  # waits, or the pool's thread fails when the process ends

    def submit(self, one: trial.Trial) -> futures.Future[trial.Outcome]:
        found: futures.Future[trial.Outcome]
        if self.own:
            self.executor = self.executor or self._pool()
            with _without_interrupts():  # which processes that start now inherit: Ctrl-C is for the one that searches
                found = self.executor.submit(_run_ours, one)
            return found
        if self.executor is not None:
            found = self.executor.submit(trial.run, self.objective, one)
            return found
        future: futures.Future[trial.Outcome] = futures.Future()
        try:
            future.set_result(trial.run(self.objective, one))
        except Exception as error:
            future.set_exception(error)
        return future

    def _pool(self) -> futures.ProcessPoolExecutor:
        """New processes, each with the objective, and the data in it, from the start."""
        cores = max(1, _cores() // self.width)
        spawn = multiprocessing.get_context("spawn")
        return futures.ProcessPoolExecutor(self.width, spawn, initializer=_begin, initargs=(self.objective, cores))

    def died(self, error: Exception) -> bool:
        """Whether this means that the worker died, not that the trial went wrong; a broken pool of ours is replaced."""
        if self.own and isinstance(error, futures.BrokenExecutor):
            if self.executor is not None:
                self.executor.shutdown(wait=False, cancel_futures=True)
                self.executor = None
            return True
        return type(error).__name__ == "KilledWorker"  # Dask's, after it has tried elsewhere


def _runner(objective: trial.Objective, executor: Any, processes: int | None, trials: int) -> _Runner:
    if executor is not None:
        if hasattr(executor, "get_executor"):  # Dask's Client
            executor = executor.get_executor(pure=False)
        if not hasattr(executor, "submit"):
            raise TypeError(
                f"search: executor is a {type(executor).__name__}; expected an Executor as of concurrent.futures, "
                "or a Client of Dask"
            )
        return _Runner(objective, executor, processes or _width(executor), own=False)
    width = min(processes or _cores(), trials)
    if width == 1:
        return _Runner(objective, None, 1, own=False)
    try:
        pickle.dumps(objective)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TypeError(
            f"search: the objective cannot be sent to other processes ({error}); define it at the top of a module, "
            "or run in this process with processes=1"
        ) from None
    return _Runner(objective, None, width, own=True)


def _width(executor: Any) -> int:
    """How many trials an executor runs at a time."""
    client = getattr(executor, "_client", None)  # Dask's, whose workers may come and go
    if client is not None:
        return max(1, int(sum(client.nthreads().values())))
    return int(getattr(executor, "_max_workers", 0)) or _cores()


def _cores() -> int:
    from fastnn.threads import default_num_threads

    return default_num_threads()


_ours: trial.Objective | None = None  # in a process of our own pool


def _begin(objective: trial.Objective, number: int) -> None:
    """In a new process: the objective, and the share of the cores, for fastnn and for NumPy's matrix products."""
    from fastnn.threads import set_num_threads

    global _ours
    _ours = objective
    set_num_threads(number)
    with contextlib.suppress(ImportError):
        need("threadpoolctl", "limiting threads", "search").threadpool_limits(number)


def _run_ours(one: trial.Trial) -> trial.Outcome:
    assert _ours is not None
    return trial.run(_ours, one)


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """SIGINT waits until the end of the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Without Optuna's messages about each trial, and about what it calls experimental."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
