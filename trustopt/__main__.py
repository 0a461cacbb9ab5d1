"""``python -m trustopt``: the same as the ``trustopt`` command."""

from .cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
