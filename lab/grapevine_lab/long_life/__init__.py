"""Real agents for hours: Mosquitto is killed and emptied again and again, a clock is set wrong, and nobody is lost.

`python -m grapevine_lab.long_life --hours 1`. The counterpart of the simulator's `a-year`, with processes.
"""
