"""What the tests and the benchmarks share: the networks they run, and how they are started."""
