"""Real applications that use kvstore, each driven by a program of its own, which `scripts/apps.py` runs.

A program is started as `PROGRAM PORT`, with a server of its own on that port of 127.0.0.1, and leaves no process
behind. It does what a user of the application does and checks the outcome. Its output is one line:

    NAME VERSION: what was done

and exit code 0. Any other end is a failure, and its output is shown. Before that line it may print `restart` alone:
then the server is ended by kill -9 and started again on the same port and data, and an empty line comes on standard
input.

A program in `refused/` is about something that does not work. It checks that the error is the one that the README
names, then that what the README recommends does work, and prints

    NAME VERSION: the error; use instead: what works
"""
