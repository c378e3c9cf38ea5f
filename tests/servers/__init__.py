"""Real servers on loopback for tests and for the demo. Each module starts one and says how to reach it."""
