"""What computes the same numbers faster, behind one name each: linear layers, attention, convolutions, the MLP."""
