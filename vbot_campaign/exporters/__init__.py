"""Read-only consumers of a study: YAML mirrors for people and scripts, and the check that they are true.

The modules are imported one by one: the mirrors load Optuna through the study, the small ones do not.
"""
