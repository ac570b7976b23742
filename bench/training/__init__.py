"""`fastnn bench --training`: a training step of whole networks, beside PyTorch's of the same network and weights."""
