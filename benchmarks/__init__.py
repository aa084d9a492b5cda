"""One file per claim; each checks its outputs before it times them, and writes its JSON beside itself."""
