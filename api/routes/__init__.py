"""The routes: thin, each calls one act of the inside and shows its result."""
