"""The commands of ``adapter-hub``, one noun a module. What is heavy they import when they run."""
