"""The command line: ``adapter``."""


def main() -> None:
    """Run the command the process was started with."""
    from adapter.cli.root import app  # the rest of this folder, only when a command runs

    app(prog_name="adapter")
