"""The groups of commands: a module for each word that follows `reverie` and is followed by another one."""
