"""Annotations to samples: folders, lists, rendered videos; the torch data sets over them; checking files.

Import from its modules: ``open`` finds the samples of a folder or CSV file, ``clips`` reads them for a loader,
``check`` decodes them all and says which are bad, ``rendered`` draws videos.
"""
