"""Alarms: rules over what goes wrong; each incident is told once when it begins and once when it is over.

The topic `alarms` is the log of incidents: the event that tells of one is also what is known of it, so there is nothing
beside it that could differ. One gateway judges, the one that owns partition 0: it alone writes, under a claim. It hears
the dead letters of all partitions, since a rule counts over all of them, and what every replica tells of its pools. A
successor reads the log, and the dead letters of the latest windows, before it judges. A service of its own, with a
table, would know no more, and a row and its event are two writes, of which a crash may leave one.
"""
