"""The paper's own research: its tables and variants, the local × global bench, and the experiment on its thesis.

Nothing of the product belongs here and no other room but its verb imports it.
"""
