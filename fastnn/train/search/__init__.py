"""Search for hyper-parameters: `fnn.train.search(objective, space, trials=50)`.

    import fastnn as fnn
    from fastnn.train import search

    def objective(trial):
        ...                                  # train with trial["lr"]; after each epoch:
        trial.report(validation_loss)        # ends hopeless trials early
        return validation_loss

    space = {"lr": search.loguniform(1e-5, 1e-1), "dropout": search.uniform(0, 0.5)}
    study = search(objective, space, trials=30, storage="search.journal")
    print(*study.summary(), sep="\\n")
    finer = search.refine(study)

On a cluster: `search(objective, space, executor=distributed.Client(address))`.

Random search finds more than a grid where one hyper-parameter matters more than others, because each trial tries
another value of it (Bergstra and Bengio 2012); learning rates are drawn in log scale.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, SupportsIndex

from fastnn.train.search import spaces as _spaces
from fastnn.train.search.study import Record, Study
from fastnn.train.search.study import refine as _refine
from fastnn.train.search.trial import Objective, Pruned, Trial

__all__ = ["Objective", "Pruned", "Record", "Study", "Trial", "search"]


class Search:
    """The function `fnn.train.search`, with what is used beside it."""

    loguniform = staticmethod(_spaces.loguniform)
    uniform = staticmethod(_spaces.uniform)
    integer = staticmethod(_spaces.integer)
    choice = staticmethod(_spaces.choice)
    refine = staticmethod(_refine)

    def __call__(
        self,
        objective: Objective | tuple[Any, Any],
        space: Mapping[str, Any],
        *,
        strategy: str = "random",
        trials: int = 20,
        processes: int | None = None,
        executor: Any = None,
        storage: str | os.PathLike[str] | None = None,
        pruning: bool = True,
        seed: SupportsIndex = 0,
        direction: str = "minimize",
        callbacks: Sequence[Callable[[Record, int, int], None]] = (),
        **training: Any,
    ) -> Study:
        """Try `trials` points of a space of hyper-parameters and return what was found.

        objective: a function of a `Trial` that returns the value to minimise; or (model, data), to train that:
            model: a name of the zoo, or a function that takes hyper-parameters by name and returns a module;
            data: a data set, or (training, validation). `training` are then options, `epochs=` above all, and "lr",
            "momentum", "weight_decay", "batch_size" and "optimizer" in the space go to the training, others to the
            model. The value is the validation loss, or with `measure="accuracy"` that, to be maximised
        space: for each name a range: `search.loguniform`, `uniform`, `integer` or `choice`
        strategy: "random"; "grid", of at most `trials` points; or "tpe", which learns from the trials before
        processes: how many run at a time; None: one a core. Each is a new process, with its share of the cores, so the
            objective must be importable by name, and a script needs `if __name__ == "__main__"`; 1: in this process
        executor: somebody else's workers: an Executor as of `concurrent.futures`, or a Client of Dask
        storage: a file that keeps the search: called again with it, the search goes on to `trials` trials in all, and
            runs again those that were interrupted
        pruning: end a trial when its best report is worse than the median of the others' at that step. What diverges
            (NaN, infinity, a loss of three times the first) is always ended
        seed: the points drawn, and `trial.seed`, depend on it and the number of a trial only (on the trials before,
            too, for "tpe")
        callbacks: called as f(record, finished, wanted) after each trial

        A trial whose worker dies is run again, three times at most. An exception in the objective ends the search.
        Needs Optuna, which draws the points and keeps the file.
        """
        from fastnn.train.search import engine

        if direction not in ("minimize", "maximize"):
            raise ValueError(f"search: direction is {direction!r}; expected 'minimize' or 'maximize'")
        if isinstance(objective, tuple):
            from fastnn.train.search import fitting

            job = fitting.Training.of(objective, training)
            function: Objective = job
            direction = "maximize" if job.measure == "accuracy" else "minimize"
        elif callable(objective):
            if training:
                raise TypeError(f"search: {', '.join(training)} belong to training (model, data), not to a function")
            function = objective
        else:
            raise TypeError(f"search: objective is a {type(objective).__name__}; expected a function or (model, data)")

        def watch(record: Record, finished: int, wanted: int) -> None:
            for callback in callbacks:
                callback(record, finished, wanted)

        return engine.run(
            function,
            space,
            strategy=strategy,
            trials=trials,
            processes=processes,
            executor=executor,
            path=storage,
            pruning=pruning,
            seed=seed,
            minimize=direction == "minimize",
            watch=watch,
        )


search = Search()
