"""The networks' shapes as data: the one place their block structure is known.

A layout yields the diffusers (or transformers) config, the LDM or BFL config and, through
``hosts.names`` and ``hosts.shapes``, every module's name and size. Full size and tiny differ in
numbers only.
"""
