"""An evaluation as one HTML page that needs nothing else: no network, no other file.

``report_plan`` checks beforehand what the page asks for, ``report_data`` makes its data, ``mistake_clips`` its videos,
``report_charts`` its charts, and ``page`` the text.
"""
