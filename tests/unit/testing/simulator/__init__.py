"""Tests of the simulator, with workflows of their own."""
