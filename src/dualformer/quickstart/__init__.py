"""From nothing to a trained and tested recogniser: every room of the house used once, on data that it makes itself.

Videos of eight motions are rendered as files, which differ in nothing but how things move. A nano network learns them,
starting from the weights that come with the package; another one learns from scratch, for comparison. Both are judged
on files that neither saw, and so are two controls that take the motion away: whoever passes those cheats.
"""
