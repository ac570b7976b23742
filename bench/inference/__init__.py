"""`fastnn bench --inference`: calls of whole networks: sessions beside ONNX Runtime, PyTorch, NumPy."""
