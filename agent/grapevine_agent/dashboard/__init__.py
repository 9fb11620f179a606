"""A page that shows a swarm as it learns, served by Starlette (the extra `dashboard`).

    feeds (sockets of agents │ a file) ─▶ overview.py ─▶ hub.py ─▶ pages, as a snapshot and patches

See docs/dashboard.md.
"""
