"""Attackers that own one branch completely, for demonstrations and benchmarks of what they cannot do."""
