"""The network of section 3: tensors in, tensors out. It needs PyTorch alone.

Read, with section 3 of the paper beside you: `network.py` (patch embedding, stages, the whole), `block.py` (sub-block,
eq. 1), `attention.py` (LW-MSA and GP-MSA, eq. 2 and 3), `pyramid.py` (the global pyramid), `position.py` (PEG, eq. 4),
then `config.py` and `presets.py` (what Tiny, Small, Base and Nano are made of).

What makes the same numbers fast or sparing of memory is elsewhere: `kernels/` behind one name each, and `tiles.py`,
`checkpointing.py`, `folding.py` and `compiling.py`. Around the network stand `contract.py` and `features.py` (for users
of a backbone), `cost.py` (multiply-adds as the paper counts them) and `maps.py` (attention maps).

Shape legend, here and everywhere: ``B`` batch, ``T H W`` frames/height/width of a token map, ``C`` channels,
``N = T·H·W`` tokens, ``G`` windows, ``L`` tokens of one window, ``P`` pyramid tokens, ``h`` heads. Videos enter as
``B 3 T H W``; inside, tokens stay channels-last, ``B T H W C``.
"""
