"""``config suggest``: from a machine and a goal to a configuration, with what it can be expected to seal.

:mod:`host` is what the machine offers, :mod:`durations` what the stages are assumed to take, :mod:`layout`
divides the one by the other, :mod:`forecast` says what comes out, :mod:`text` writes the file.
"""
