"""Papers reproduced with Grapevine: a package for each, `python -m grapevine_lab.papers.NAME`."""
