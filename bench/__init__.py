"""The benchmark suite: fastnn against every installed rival, side by side in one process."""
