"""`fastnn bench --device cuda`: every op on a GPU, against its bytes over the bandwidth of a copy, and against rivals.

Times are those of CUDA events around calls that are queued one behind the other, each on memory of its own, so much of
it in turn that the L2 cache holds none of it when its turn comes again. Where there is no GPU nothing is measured.
"""
