"""What makes the reference's numbers fast: linear layers, attention, depth-wise convolutions. One name each."""
