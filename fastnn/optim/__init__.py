"""Optimisers and schedules of the learning rate, with PyTorch's names, arguments and values.

optimizer = fnn.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
schedule = fnn.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
"""

from __future__ import annotations

from fastnn.optim import lr_scheduler
from fastnn.optim.adam import Adam, AdamW
from fastnn.optim.clip import clip_grad_norm_
from fastnn.optim.optimizer import Optimizer
from fastnn.optim.rmsprop import RMSprop
from fastnn.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "clip_grad_norm_", "lr_scheduler"]
