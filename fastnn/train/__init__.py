"""Training: the loop, its record, and the checks that tell what is wrong with a run and what to try.

print(fnn.train.sanity_check(model, train))
history = fnn.train.fit(model, train, validation=test, epochs=10, checkpoint="run")
history.plot("run/history.png")
print(*history.findings, sep="\\n")
print(fnn.train.evaluate(model, test).accuracy)
"""

from __future__ import annotations

from fastnn.train.callbacks import Callback, EarlyStopping
from fastnn.train.checkpoint import Checkpoints
from fastnn.train.checks import Check, SanityReport, sanity_check
from fastnn.train.evaluation import Evaluation, evaluate, predict
from fastnn.train.findings import Finding, TrainingWarning
from fastnn.train.fit import fit
from fastnn.train.history import History
from fastnn.train.monitor import Monitor
from fastnn.train.search import search
from fastnn.train.trainer import Trainer

__all__ = [
    "Callback",
    "Check",
    "Checkpoints",
    "EarlyStopping",
    "Evaluation",
    "Finding",
    "History",
    "Monitor",
    "SanityReport",
    "Trainer",
    "TrainingWarning",
    "evaluate",
    "fit",
    "predict",
    "sanity_check",
    "search",
]
