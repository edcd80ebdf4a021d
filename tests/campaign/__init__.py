"""A campaign of attacks on runs, files, configs, disks and the workflow: ``python -m tests.campaign``.

Attacks are planned from a seed, carried out by the real commands, and judged by effect: a command ends with one clear
line and an error status, or with what the undisturbed command gives, bit for bit. One file is one kind of attack.
"""
