"""The web page over a service: drop a video, see its labels, its timeline, and what the network goes by.

``mount`` adds it to an application, ``page_layout`` has its components and events, ``page_text`` its HTML, and
``request_filter`` rejects requests that the page does not need. Needs the extra ``web``.
"""
