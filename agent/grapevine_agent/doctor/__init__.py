"""`grapevine doctor`: looks at everything that an agent needs here, and says of each what to do.

    situation.py     what is known at first: the configuration, as far as it can be read, and the agent, if one runs
      ▶ checks.py    the list of checks, in the order in which they are told
          configured.py  machine.py  disk.py  wear.py  sources.py  trust.py  trainer.py  clock.py
          asking.py      asks one broker what it does ▶ brokers.py: what that means
      ▶ examination.py   all at once, each with a deadline and nothing let out of it
          ▶ findings.py  what was found: a check's name, a level, one sentence, one remedy, figures

It changes nothing. With a broker it speaks as commands do, under a client id of its own and on topics below its own
peer's name to which nobody subscribes, so an agent that runs here hears nothing of it; what a broker is to retain for a
moment is erased again. What only the running agent knows it is asked over its socket.
"""
