"""`python -m server`: the `hearth` command."""

from server.cli.main import app


def main() -> None:
    app()


if __name__ == "__main__":
    main()
