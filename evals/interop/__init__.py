"""Programs that are not ours read an exported log: what they must accept, and what they must refuse."""
