"""The network of section 3: tensors in, tensors out. It needs PyTorch alone.

Read `config.py` (what a network is made of), `attention.py` (LW-MSA and GP-MSA), `pyramid.py` (the global pyramid),
`position.py` (PEG and its alternatives), `half.py` (half a block), `network.py` (stages, the whole), `presets.py`
(Tiny, Small, Base, Nano), in this order. Around it stand `contract.py` and `features.py` (what users of backbones ask
for), `ablations.py` and `cost.py` (the paper's tables), `maps.py` (what the network looks at). Below it lies what makes
it fast and changes no number: `linear.py`, `convolution.py`, `kernel.py` (attention), `tiles.py` (the order of work).

Shape legend, here and everywhere: ``B`` batch, ``T H W`` frames/height/width of a token map, ``C`` channels,
``N = T·H·W`` tokens, ``G`` windows, ``L`` tokens of one window, ``P`` pyramid tokens, ``h`` heads. Videos enter as
``B 3 T H W``; inside, tokens stay channels-last, ``B T H W C``.
"""
