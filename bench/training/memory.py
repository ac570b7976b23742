"""How much memory training takes: in a process of its own, the most it held beyond what its libraries take.

python -P -m fastnn.bench.training.memory NETWORK CONTENDER THREADS
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

from .contenders import OURS, forms, state_of
from .problems import NETWORKS

STEPS = 6
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def measured(network: str, contender: str, threads: int) -> int | None:
    """Bytes, model, optimiser and batches included; None where the system does not tell (it is Linux that does)."""
    if not _STATUS.exists():
        return None
    command = [sys.executable, "-P", "-m", __name__, network, contender, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{contender}, {network}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return int(done.stdout)


def _kilobytes(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def main(network: str, contender: str, threads: str) -> int:
    """Measure in this process and print the number."""
    state = state_of(NETWORKS[network])  # with it what fastnn imports; PyTorch needs it for its weights
    if contender != OURS:
        importlib.import_module("torch")
        importlib.import_module("fastnn.bench.rivals.torch_.networks")
    _RESET.write_text("5")  # the peak begins anew
    before = _kilobytes("VmRSS")
    step, _ = forms(NETWORKS[network], compiled=contender == "torch compile")[contender](state, int(threads))
    for _ in range(STEPS):
        step()
    print(1024 * (_kilobytes("VmHWM") - before))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
