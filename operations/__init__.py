"""What may be done and what has been done: the domain, free of HTTP and model vendors."""
