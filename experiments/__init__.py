"""Studies of what helps, each with its verdict, and benchmarks."""
