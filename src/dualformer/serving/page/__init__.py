"""The web page over a service: labels, timeline and Grad-CAM of a video.

``mount`` adds it to an application, ``page_layout`` has its components and events, ``page_text`` its HTML, and
``request_filter`` rejects requests that the page does not need. Needs the extra ``web``.
"""
