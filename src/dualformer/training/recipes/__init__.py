"""Recipes: settings of runs whose results the paper or this project states, by name.

``kinetics.py`` and ``transfer.py`` hold the paper's, ``modern.py`` what has become usual since, ``rendered.py`` the run
behind the weights that come with the package. ``find.py`` finds them, or reads settings from a file.
"""
