"""The web page over a service: drop a video, see labels, what happens when, and what the network goes by.

``mount.mount_page`` puts it into an application; ``blocks`` is its layout and what its buttons do, ``guard`` keeps from
it whatever is not the page's own business. Needs the extra ``web``.
"""
