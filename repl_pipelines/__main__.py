"""`python -m repl_pipelines`: the same as the command `repl-pipelines`."""

from repl_pipelines.commands.main import main

if __name__ == "__main__":
    main(prog_name="repl-pipelines")
