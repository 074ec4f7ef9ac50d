"""The proof: suites, adversaries and benchmarks."""
