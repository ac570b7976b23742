"""The standing texts of the report page, in HTML; what is in braces comes from the result."""

INTRODUCTION = """
<p>How fast and how accurate fastnn's functions are on one machine, beside the libraries installed there. All
were measured in the same process, in turns, on the same arrays.</p>
"""

CLAIM = """
<p class="faint">Claim of a lecture, timed on a laptop CPU: for one array of about a million elements ReLU is about 3
times faster than sigmoid, because exp is costly.</p>
"""

CLAIM_NOTE = """
<p class="faint">{size:,} float32. Floor: np.copyto of the array takes {floor:,.1f} µs. "textbook" is
<code>np.maximum(x, 0)</code> and <code>1 / (1 + np.exp(-x))</code>, a new array for every step; "numpy" is the quickest
way NumPy has, without temporaries. SciPy has no ReLU, its users take NumPy's.</p>
"""

TABLES = """
<p class="faint">Times are medians in nanoseconds per element. "of copy" is the memory traffic achieved (forward: read
x, write y; backward: read dy and the saved array, write dx) over that of np.copyto on arrays of the same size. "ratio"
is fastnn's time over that of the fastest rival: 0.5 is half its time. ULP is the largest error in units in the last
place, first on the numbers measured, then on a stress sample with the tails; "wrong" means infinite or NaN where the
true result is finite, or the reverse. Click on a heading to sort.</p>
"""

FUNCTIONS = """
<p class="faint">Times are medians in microseconds. "rate" is the least memory traffic of the call (every input read
once, every result written once, what is updated in place both) per second, or its multiplications and additions where
those take the time; "of copy" is that traffic over that of np.copyto, on an array of which a copy moves as much.
"error" is the largest of all results against the float64 formula, in units in the last place of what the function's
documentation counts its error in. "memory" is what a call allocates beyond its results at any time, as far as NumPy
allocates it. "ratio" is fastnn's time over that of the fastest rival: 0.5 is half its time.</p>
"""

ACCURACY = """
<p>Speed alone is easy. Each mark is one activation in one library: left is faster, down is more accurate. The stress
sample steps through all finite bit patterns of the format, so results lost in the tails show near the top: a function
that returns 0 where the true value is small but representable is off by millions of units.</p>
"""

METHOD = """
<ul>
<li>One process. In every round each library has one turn, in rotating order, so that a slow phase of the machine hits
all alike; medians over the rounds. A turn is one untimed call and then as many calls as last 0.3 ms; a
call of more than 20 ms stands for itself.</li>
<li>All libraries read and write the same arrays, aligned to 64 bytes and allocated once, filled with normally
distributed numbers (mean 0, variance 1) where nothing else is said.</li>
<li>Each library in its best form: preallocated outputs where it has them (NumPy, SciPy, numexpr and PyTorch
<code>out=</code>, ONNX Runtime I/O binding, JAX compiled with a donated buffer), inference mode, backward by the
library's own backward kernel from the same saved array. A library without the function shows a dash. Where a parameter
is learned, backward includes its gradient. Where a library has several ways the quickest is taken, found by trying them
first. PyTorch runs eagerly, JAX stands for compilers. Arrays are laid out as the function's users have them (channels
before space), for everybody.</li>
<li>Where results are random every library draws its own numbers, by the quickest generator it has; the others' errors
are counted given the choices seen in their results.</li>
<li>Thread limit for everybody: {threads}. NumPy and SciPy always use one, but for matrix products, where their BLAS is
held to that number. The CPU time of the process is watched, and a library that exceeded the limit would be named at the
top of this page.</li>
<li>Errors are measured against the formulas of fastnn's op table, evaluated in float64 (in arbitrary precision for
float64). A result below the smallest normal number may be that number off; within a quarter of a zero of the derivative
the error may be 2<sup>-22</sup> absolute. The stress sample has dy = 1.</li>
<li>The run took {seconds:.0f} s. <code>results.json</code>, beside this page, has every figure with its quartiles;
<code>fastnn bench --compare A.json B.json</code> compares two.</li>
</ul>
"""
