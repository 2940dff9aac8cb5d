"""Real processes: a whole exchange is started, used, killed and stopped, as its users and its faults do it."""
