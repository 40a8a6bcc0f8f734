"""``preflight``: is everything in place for the sectors that a configuration will seal?

Every module looks at one thing and answers :class:`~damocles_worker.preflight.lines.Line` s;
:mod:`run` asks all of them.
"""
