"""The comparison of `tests/bench/compare`: how fast queues are drained by bare loops, by ours and by other systems,
in turn.

    command       arguments, the order of a run, what is printed
    contestants   what is measured, and how each one is filled and started
    mix           how long short tasks wait beside long ones, and how much of it the queue's length explains
    stage         folder and processes of a run, all of which end with it, however it ends
    broker        a RabbitMQ of the run's own
    tools         what is built or installed before: this project's bench, a Python environment
    run_file      figures of a run: medians, ratios, JSON
    table, chart  the figures for people
    programs/     tasks for each system

Standard library alone. How the measuring is done and what is left out of it: ../README.md.
"""
