"""Chaos on real processes: a seed gives faults and client actions, a judgement after healing says what broke."""
