"""Where scenarios run: the simulator, the time-skipping server, the real server."""
