"""One function a verb, with plain arguments: what the command line, a notebook, a server or a queue of jobs calls.

Nothing here parses, prints, or reads the environment.
"""
