"""The network of section 3: tensors in, tensors out. It needs PyTorch alone.

Read `config.py` (what a network is made of), `attention.py` (LW-MSA and GP-MSA), `pyramid.py` (the global pyramid),
`position.py` (PEG and its alternatives), `block.py` (half of a block), `network.py` (stages, the whole), `presets.py`
(Tiny, Small, Base, Nano), in this order. Around it stand `contract.py` and `features.py` (what users of backbones ask
for), `cost.py` (multiply-adds as the paper counts them), `maps.py` (what the network looks at). `kernels/` and
`tiles.py` make it fast and change no number.

Shape legend, here and everywhere: ``B`` batch, ``T H W`` frames/height/width of a token map, ``C`` channels,
``N = T·H·W`` tokens, ``G`` windows, ``L`` tokens of one window, ``P`` pyramid tokens, ``h`` heads. Videos enter as
``B 3 T H W``; inside, tokens stay channels-last, ``B T H W C``.
"""
