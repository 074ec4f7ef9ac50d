"""The stand-alone verifier: standard library and `cryptography` only, importing nothing of the server."""
