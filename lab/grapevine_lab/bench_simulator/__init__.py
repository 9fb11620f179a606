"""How fast our simulator is, beside others that do the same work: Flower's and gossipy.

Each system is a process. It gets the same model, samples, batches and number of steps, the same two
cores, and says on its standard output, one JSON object a line, when a round ends:

    {"event": "ready", "t": 12.5}               the first round begins; t is CLOCK_MONOTONIC in seconds
    {"event": "round", "round": 1, "t": 13.0}   every node has trained once, on average, and exchanged its model
    {"event": "learned", "accuracy": 0.93}      after the last round: a sign that it did the work

Everything else is measured from outside, and alike for all (see `runs`):

* *a round*: the median time between the ends of consecutive rounds, so the first round is left out;
* *start-up*: from the process's start to the end of its first round, less one such round. Not to
  "ready", because some systems put off what they need until the first round asks for it;
* *memory*: the largest sum, over the process and all that it started, of the memory that is theirs
  (PSS, in which a shared page is divided among those who share it; RSS where there is no PSS). To ask
  for it takes a few milliseconds for each process, so that is done in one more run, which is not timed.

Nobody evaluates a model during the rounds. The others run in virtual environments of their own
(`peers`), with code (`peer_code`) that knows nothing of Grapevine.
"""
