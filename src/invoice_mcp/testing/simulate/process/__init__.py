"""Worker processes, interruption by Ctrl-C, and loading of workflows by name."""
