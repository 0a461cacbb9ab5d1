"""The headless face: ``trustopt demo``, ``train``, ``plan``, ``inspect``, ``convert``, ``bench``.

``main.py`` parses, dispatches and turns errors into exit codes. Each command is a module with
``add_arguments(parser)`` and ``run(arguments) -> exit code`` that imports torch only when it runs,
so that ``--help`` answers at once. ``job_file.py`` is the TOML face of a job, ``show_run.py``
runs one, ``progress.py`` is what it shows meanwhile.
"""
