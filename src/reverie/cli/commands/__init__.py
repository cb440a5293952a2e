"""The work of each command, one module a command; loaded when the command runs."""
