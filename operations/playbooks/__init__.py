"""One family of playbooks a file; each does one real thing to one real system."""
