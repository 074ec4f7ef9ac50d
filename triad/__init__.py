"""The story: how one request becomes a sealed, provable operation."""
