"""Rendered people: labelled clips of articulated bodies made from nothing, whose classes differ only in motion.

``scene`` says what a clip can be, ``clips`` renders one (``render_people``) or a data set of them (``PeopleClips``).
"""
