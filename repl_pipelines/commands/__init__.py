"""The command `repl-pipelines`: a file for each command, and what they share."""
