"""One script a lesson: `python -m experiments.<name> --help`."""
